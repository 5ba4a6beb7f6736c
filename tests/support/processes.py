"""Commands as subprocesses: started, read until they say what is waited for, and ended by their own pid."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BOTFARM = str(Path(sys.executable).with_name("botfarm"))


class Process:
    """Both output streams go to one file, so nothing blocks and everything can be shown when a test fails."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self._output = tempfile.NamedTemporaryFile("w+", prefix="botfarm-output-")  # noqa: SIM115  closed in end()
        self._process = subprocess.Popen(
            command,
            env=clean_environment(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the group: see interrupt()
        )
        self.pid = self._process.pid
        self._kept = ""

    @property
    def output(self) -> str:
        return self._kept or Path(self._output.name).read_text()

    def wait_for(self, pattern: str, *, seconds: float = 60) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.output)):
            assert self._process.poll() is None, f"it ended with {self._process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {pattern!r} within {seconds} s:\n{self.output}"
            time.sleep(0.02)
        return found

    def url(self) -> str:
        """Waits until `botfarm serve` takes requests, or `botfarm worker` works: the URL of the API, or of the probes."""
        return self.wait_for(r'"(?:url|probes)": "(\S+)", "event": "(?:serving|working)"')[1]

    def wait(self, *, seconds: float = 60) -> int:
        return self._process.wait(seconds)

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C: the whole foreground group gets the signal."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._kept = self.output  # the file goes with its end
        self._output.close()


def heed_signals() -> None:
    """A shell in the background ignores Ctrl-C, and `nohup` a closed terminal. The commands would inherit both."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def clean_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Ours without any BOTFARM_ variable, so that a test says all that matters.

    Bytecode is kept, because otherwise each of some hundred commands compiles the sources anew.
    """
    ours = os.environ.items()
    kept = {k: v for k, v in ours if not k.startswith("BOTFARM_") and k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **additions}


@contextmanager
def running(*command: str, environment: Mapping[str, str], cwd: Path = CHECKOUT) -> Iterator[Process]:
    process = Process(command, environment, cwd)
    try:
        yield process
    except BaseException:
        print(f"{' '.join(command)} said last:\n{process.output[-4_000:]}")  # noqa: T201  shown when the test fails
        raise
    finally:
        process.end()


def assert_dies(pid: int, *, seconds: float = 60) -> None:
    """A process that has ended stays in the table until its parent, or the system's first process, looks at it."""
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
