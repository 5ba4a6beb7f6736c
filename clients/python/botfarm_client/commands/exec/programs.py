"""The program of `botfarm exec`: found before a user is taken for it, started, and what is left of it ended."""

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from botfarm_client.commands.shared.command_errors import CommandError

# As shells have them.
CANNOT_RUN, NOT_FOUND = 126, 127
# Seconds. The lock-delay of a project is 15 unless it says otherwise: nobody gets the users while they are
# still in use.
GRACE = 5.0
PAUSE = 0.05


def require_program(name: str) -> None:
    """Raises CommandError with the exit code of a shell."""
    if shutil.which(name):
        return
    if shutil.which(name, mode=os.F_OK) or (os.sep in name and Path(name).exists()):
        raise CommandError(f"{name}: is not executable", exit_code=CANNOT_RUN)
    raise CommandError(f"{name}: no such command", exit_code=NOT_FOUND)


def start_program(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """In our process group, so that it has the terminal as we have it."""
    try:
        return subprocess.Popen(command, env=environment)  # noqa: S603  to run it is what we are asked for
    except FileNotFoundError:  # its interpreter; itself was looked for
        raise CommandError(
            f"{command[0]}: the interpreter that its first line names is not there", exit_code=NOT_FOUND
        ) from None
    except OSError as error:
        reason = {
            errno.E2BIG: "its arguments and its environment, with the users, are too long for this system",
            errno.ENOEXEC: "it is no program, and no script that begins with #!",
        }.get(error.errno or 0, error.strerror)
        raise CommandError(f"cannot run {command[0]}: {reason}", exit_code=CANNOT_RUN) from None


def wait_for(program: "subprocess.Popen[bytes]") -> int:
    """The exit code as a shell has it.

    In short waits: one without a limit would not be woken by a signal that came just before it, until the next one.
    """
    while (status := program.poll()) is None:
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=1)
    return status if status >= 0 else 128 - status


def end_programs(mark: str, child: "subprocess.Popen[bytes]") -> None:
    """The child and all that has inherited the mark, `NAME=value`, of its environment: TERM, and KILL after a grace.

    A shell or a runner that is told to stop may leave its own children behind, which would go on with the users.
    """
    deadline = time.monotonic() + GRACE
    child.terminate()
    _signal_others(signal.SIGTERM, mark, child)
    while time.monotonic() < deadline:
        if child.poll() is not None and not any(_marked(mark)):
            return
        time.sleep(PAUSE)
    child.kill()
    if hasattr(signal, "SIGKILL"):
        _signal_others(signal.SIGKILL, mark, child)


def _signal_others(number: int, mark: str, child: "subprocess.Popen[bytes]") -> None:
    for pid in _marked(mark):
        if pid != child.pid:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue


def _marked(mark: str) -> Iterator[int]:
    """Only Linux tells; elsewhere it is the child alone.

    Of others' processes and of those that have ended nothing is read.
    """
    entry = mark.encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if entry in variables:
            yield int(path.parent.name)
