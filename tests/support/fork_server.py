"""The fork server, a program: starts `botfarm` commands without their imports, which take most of their time.

It has imported all commands and forks a child for each one. The child is a process of its own: pid, session, signals,
environment, working directory and files. It ends as the installed `botfarm` does. The fork server ends when the pytest
process that has started it closes its end of the connection, or has ended.

A test about the start itself (imports, command line in /proc, locale, limits, terminal) starts the real executable.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

# Commands import these when they run.
LATE_IMPORTS = (
    "alembic.command",
    "botfarm_client:Botfarm",
    "httpx",
    "rich.markdown",
    "typer.rich_utils",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
)
LONGEST_MESSAGE = 16
"""Bytes of a request (its content is in a file) or of a report: a pid or an exit code."""


def _import_commands() -> None:
    cli = import_module("botfarm_client.cli")
    for entry in (*cli.COMMANDS.values(), *cli._installed_commands().values()):
        resolve_name(entry.target)
    for name in LATE_IMPORTS:
        resolve_name(name)
    assert threading.active_count() == 1, "a child would not have the other threads"
    gc.collect()
    gc.freeze()  # because a collection in a child would copy all memory pages


def _fork_until_closed(requests: socket.socket) -> bool:
    """Returns True in each child, which is to run its command, and False when the pytest process has closed its end."""
    children: dict[int, tuple[int, int]] = {}
    """Pid and file for reports, by the file descriptor that is readable when the child has ended."""
    while True:
        for ready in select.select([requests.fileno(), *children], [], [])[0]:
            if ready in children:
                pid, reports = children.pop(ready)
                _report(reports, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(reports)
                os.close(ready)
                continue
            message, received, *_ = socket.recv_fds(requests, LONGEST_MESSAGE, 5)
            if not message:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGTERM)
                return False
            reports, command, *files = received
            pid = os.fork()
            if pid == 0:
                requests.detach()
                _become(command, files)
                return True
            children[os.pidfd_open(pid)] = (pid, reports)
            _report(reports, pid)
            for file in (command, *files):
                os.close(file)


def _report(reports: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the test is over
        os.write(reports, str(number).encode())


def _become(request: int, files: list[int]) -> None:
    with os.fdopen(request) as lines:
        command = json.load(lines)
    os.setsid()
    for standard, file in enumerate(files):
        os.dup2(file, standard)
    # As Python opens them: the objects of before know whether their files were terminals or pipes.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.closerange(len(files), os.sysconf("SC_OPEN_MAX"))
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.argv[1:] = command["arguments"]


def _run() -> None:
    try:
        resolve_name("botfarm_client.cli:main")()
    except SystemExit as end:
        exit_codes.append(end.code)
        raise
    exit_codes.append(0)


def _leave() -> None:
    """Ends a command whose exit code is a number before Python frees each object, which copies most memory pages."""
    for exit_code in exit_codes:
        if isinstance(exit_code, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(exit_code)


if __name__ == "__main__":
    exit_codes: list[object] = []
    atexit.register(_leave)  # before the commands register theirs, because the first one runs last
    requests = socket.socket(fileno=int(sys.argv[1]))
    sys.argv = [str(Path(sys.executable).with_name("botfarm"))]  # `botfarm dev` shows it
    _import_commands()
    if _fork_until_closed(requests):
        _run()
