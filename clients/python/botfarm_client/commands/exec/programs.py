"""The program of `botfarm exec`: found before a user is taken, started, and ended with all its children."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from botfarm_client.commands.shared.command_errors import CommandError

# The exit codes of shells.
CANNOT_RUN, NOT_FOUND = 126, 127
# Seconds. Shorter than the default lock-delay of a project, 15, so that the program is gone before its
# users are leased to anybody else.
GRACE = 5.0
PAUSE = 0.05


def require_program(name: str) -> None:
    """Raises CommandError, with the exit code of a shell, if the program cannot be found or run."""
    if shutil.which(name):
        return
    if shutil.which(name, mode=os.F_OK) or (os.sep in name and Path(name).exists()):
        raise CommandError(f"{name}: is not executable", exit_code=CANNOT_RUN)
    raise CommandError(f"{name}: no such command", exit_code=NOT_FOUND)


def start_program(
    command: Sequence[str], environment: Mapping[str, str], *, captured: bool = False
) -> "subprocess.Popen[bytes]":
    """Starts the program in our process group, so that it can use the terminal.

    `captured`: both of its outputs go to one pipe, so that their order is kept.
    """
    output, errors = (subprocess.PIPE, subprocess.STDOUT) if captured else (None, None)
    try:
        return subprocess.Popen(_found(command), env=environment, stdout=output, stderr=errors)  # noqa: S603  running it is the purpose
    except FileNotFoundError:  # its interpreter is missing: the program itself was found before
        raise CommandError(
            f"{command[0]}: the interpreter that its first line names is not there", exit_code=NOT_FOUND
        ) from None
    except OSError as error:
        reason = {
            errno.E2BIG: "its arguments and its environment, with the users, are too long for this system",
            errno.ENOEXEC: "it is no program, and no script that begins with #!",
        }.get(error.errno or 0, error.strerror)
        raise CommandError(f"cannot run {command[0]}: {reason}", exit_code=CANNOT_RUN) from None


def _found(command: Sequence[str]) -> Sequence[str]:
    """The command as it is started.

    On Windows with its path, because the system itself looks for `npx.exe` alone, and not for `npx.cmd`.
    """
    if sys.platform != "win32":
        return command
    return [shutil.which(command[0]) or command[0], *command[1:]]


def wait_for(program: "subprocess.Popen[bytes]") -> int:
    """The program's exit code, as a shell reports it.

    Waits in short pieces, because a signal just before an unlimited wait would not wake it.
    """
    while (status := program.poll()) is None:
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=1)
    return status if status >= 0 else 128 - status


def end_programs(mark: str, child: "subprocess.Popen[bytes]") -> None:
    """Ends the program and all processes with `mark` (`NAME=value`) in their environment: TERM, later KILL.

    A shell or a runner that is stopped may leave children behind, which would go on using the users.
    """
    deadline = time.monotonic() + GRACE
    if sys.platform == "win32":
        _end_with_children(child)
    child.terminate()
    _signal_others(signal.SIGTERM, mark, child)
    while time.monotonic() < deadline:
        if child.poll() is not None and not any(_marked(mark)):
            return
        time.sleep(PAUSE)
    child.kill()
    if hasattr(signal, "SIGKILL"):
        _signal_others(signal.SIGKILL, mark, child)


def _end_with_children(child: "subprocess.Popen[bytes]") -> None:
    """On Windows, where ending a program such as `npx.cmd` would leave the programs that it has started."""
    # By its path, because Windows would run a taskkill.exe of the current folder.
    taskkill = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603
            [taskkill, "/T", "/F", "/PID", str(child.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=GRACE,
        )


def _signal_others(number: int, mark: str, child: "subprocess.Popen[bytes]") -> None:
    for pid in _marked(mark):
        if pid != child.pid:
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue


def _marked(mark: str) -> Iterator[int]:
    """The processes with the mark. Only Linux can tell: elsewhere there are none.

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
