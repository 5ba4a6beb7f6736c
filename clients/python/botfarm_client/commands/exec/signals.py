"""Signals to `botfarm exec`.

Before its program runs they end the command; then they are passed to the program.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

Program = subprocess.Popen[bytes]
Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


def _signals(*names: str) -> frozenset[signal.Signals]:
    """The signals that this system has. Windows has few of them, and SIGBREAK."""
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


_HANGUP = _signals("SIGHUP")
_FROM_KEYBOARD = _signals("SIGINT", "SIGQUIT", "SIGBREAK")
_ENDING = _HANGUP | _FROM_KEYBOARD | _signals("SIGTERM")
# Without the signals that stop and continue a job, because a terminal sends them to all processes of the job.
_PASSED = _ENDING | _signals("SIGUSR1", "SIGUSR2")


class Signals:
    """Raises SystemExit with 128 + number, once: a second signal must not disturb the release."""

    def __init__(self) -> None:
        self.told_to_end = False
        """Whether a signal has told the program to end."""
        self._program: Program | None = None
        self._is_starting = False
        self._is_ending = False
        self._kept: list[int] = []
        self._had_terminal = False
        self._former: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        self._had_terminal = _foreground_group() is not None
        for number in _PASSED:
            # The program ignores what this process was started to ignore, as by nohup.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def start(self, start: Callable[[], Program]) -> Program:
        self._is_starting = True
        self._program = start()
        for number in self._kept:
            self._pass_on(self._program, number)
        return self._program

    def forget_program(self) -> None:
        """The program has ended: from now on signals end the command again."""
        self._program, self._is_starting = None, False
        self._kept.clear()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._program is not None:
            self._pass_on(self._program, number)
        elif self._is_starting:
            self._kept.append(number)
        elif not self._is_ending:
            self._is_ending = True
            raise SystemExit(128 + number)

    def _pass_on(self, program: Program, number: int) -> None:
        self.told_to_end |= number in _ENDING
        if not self._is_of_our_terminal(number):
            program.send_signal(number)

    def _is_of_our_terminal(self, number: int) -> bool:
        """Whether the terminal sent the signal to the program too, which must not get it twice."""
        if number in _FROM_KEYBOARD:
            # Windows sends them to all processes of a console at once.
            return not hasattr(os, "getpgrp") or _foreground_group() == os.getpgrp()
        if number in _HANGUP:  # the terminal is gone; only the first process of a session is told
            return self._had_terminal and _foreground_group() is None and not _is_first_of_session()
        return False


def _foreground_group() -> int | None:
    """The foreground process group of our terminal, if there is one."""
    if not hasattr(os, "tcgetpgrp"):
        return None
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | getattr(os, "O_NOCTTY", 0))
    except OSError:
        return None
    try:
        return int(os.tcgetpgrp(terminal))
    except OSError:
        return None
    finally:
        os.close(terminal)


def _is_first_of_session() -> bool:
    return hasattr(os, "getsid") and os.getsid(0) == os.getpid()
