"""The output of the program of a chore: shown on standard error, and its last line kept."""

import os
import re
import subprocess
import sys
from threading import Thread

# Bytes; a note is shorter.
_TAIL = 16_384
# Seconds. A process that the program has left behind may keep the pipe open.
_PATIENCE = 1.0
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class ProgramOutput:
    def __init__(self, program: "subprocess.Popen[bytes]") -> None:
        """Copies the captured output of the program in a thread."""
        self._tail = b""
        self._copying = Thread(target=self._copy, args=(program,), name="botfarm-output", daemon=True)
        self._copying.start()

    def last_line(self) -> str:
        """The last line that is not blank, without colours. Call it when the program has ended."""
        self._copying.join(_PATIENCE)
        text = _COLOURS.sub("", self._tail.decode(errors="replace"))
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return "".join(each for each in lines[-1] if each.isprintable()) if lines else ""

    def _copy(self, program: "subprocess.Popen[bytes]") -> None:
        assert program.stdout is not None  # noqa: S101  it was started so
        with program.stdout as pipe:
            while chunk := os.read(pipe.fileno(), 65_536):
                self._tail = (self._tail + chunk)[-_TAIL:]
                _show(chunk)


def _show(chunk: bytes) -> None:
    if sys.stderr is None:
        return
    try:
        sys.stderr.buffer.write(chunk)
        sys.stderr.buffer.flush()
    except OSError:  # nobody reads it; the program must not stand still
        return
