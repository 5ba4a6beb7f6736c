"""Makes of this process one without POSIX, as Python has it on Windows: import it before the client.

Other libraries are imported first, because they choose their code for POSIX or Windows themselves.
"""

import asyncio
import io
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
import rich.console
import typer
import typer.testing

assert not [name for name in sys.modules if name.startswith("botfarm")], "imported too early"
assert httpx, pytest and rich and typer

MODULES = "crypt curses fcntl grp nis posix pty pwd readline resource spwd syslog termios tty uvloop"
SIGNALS = (
    "SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTRAP SIGTSTP "
    "SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ "
    "alarm pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait"
)
# Without WNOHANG and waitpid, by which the library's Popen of this system waits.
FUNCTIONS = (
    "O_CLOEXEC O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK chown chroot confstr ctermid environb "
    "fchmod fchown fork forkpty getegid geteuid getgid getgroups getpgid getpgrp getpriority getsid getuid "
    "initgroups killpg lchown mkfifo mknod nice openpty posix_spawn pread pwrite register_at_fork "
    "sched_getaffinity sendfile set_blocking setegid seteuid setgid setpgid setsid setuid statvfs sysconf "
    "tcgetpgrp tcsetpgrp ttyname umount uname wait wait3 wait4"
)
OTHERS = {
    select: "poll epoll",
    time: "CLOCK_BOOTTIME CLOCK_MONOTONIC clock_gettime tzset",
}

for name in MODULES.split():
    sys.modules[name] = None  # type: ignore[assignment]  its import fails
for module, names in ((signal, SIGNALS), (os, FUNCTIONS), *OTHERS.items()):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


def _chmod(*_: object, **__: object) -> None:
    """Windows knows only whether a file may be written."""


def _send_signal(program: "subprocess.Popen[bytes]", number: int) -> None:
    if number not in {signal.SIGTERM, signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT}:  # type: ignore[attr-defined]
        raise ValueError(f"Unsupported signal: {number}")
    program.terminate()


def _terminate(program: "subprocess.Popen[bytes]") -> None:
    if program.poll() is None:
        os.kill(program.pid, 9)  # nothing of the program runs any more


def _add_signal_handler(*_: object) -> None:
    raise NotImplementedError


signal.SIGBREAK = signal.Signals(21)  # type: ignore[attr-defined]
signal.CTRL_C_EVENT, signal.CTRL_BREAK_EVENT = 0, 1  # type: ignore[attr-defined]
os.chmod = _chmod
subprocess.Popen.send_signal = _send_signal  # type: ignore[method-assign,assignment]
subprocess.Popen.terminate = subprocess.Popen.kill = _terminate  # type: ignore[method-assign,assignment]
asyncio.BaseEventLoop.add_signal_handler = _add_signal_handler  # type: ignore[method-assign,assignment]
io._WindowsConsoleIO = type("_WindowsConsoleIO", (), {})  # type: ignore[attr-defined]
shutil._winapi = SimpleNamespace(NeedCurrentDirectoryForExePath=lambda _: False)  # type: ignore[attr-defined]
# Beside the endings of Windows none, because programs of this system have none.
os.environ["PATHEXT"] = os.pathsep.join(["", ".COM", ".EXE", ".BAT", ".CMD"])
sys.platform = "win32"
