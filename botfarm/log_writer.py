"""Writes log lines in batches from the event loop, which never waits for the reader of its log."""

import asyncio
import os
import select
import stat
import sys
import time
from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from threading import Lock

from structlog.typing import EventDict

MOST_CHARACTERS = 10_000_000
"""The most that is queued while nobody reads: some 30,000 lines of requests. Further lines are counted and dropped."""
MOST_AT_ONCE = 1_000
"""Lines that are written before the event loop does other work. They take it about 5 ms."""
PAUSE = 0.1
"""Seconds from one batch to the next one. The first line after a pause is written without delay."""
RETRY = 1.0
"""Seconds after a write that failed."""
CLOSING_PATIENCE = 2.0
"""Seconds in which the last lines are written while the process ends."""

# Bytes that a pipe with any room takes without blocking. Windows does not say how many.
_PIPE_CHUNK: int = getattr(select, "PIPE_BUF", 4_096)
_OF_AN_EVENT = 300
"""Characters of the line that an event will be, about."""


class Left(Enum):
    """Why lines are left."""

    QUEUED = auto()
    UNTAKEN = auto()
    """The file takes no more now."""
    FAILED = auto()


class LogWriter:
    """Keeps the order of lines. A kill by force loses the lines of the last pause.

    A line from outside an event loop is written before the call returns, or by the loop if that has lines to write
    anyway. If the file takes no line then, it is written with a later one.
    """

    def __init__(self, file: int, render: Callable[[EventDict], str]) -> None:
        """`file` is a file descriptor. `render` makes an event that was not rendered yet a line without its end."""
        self._file = file
        self._render = render
        # Its methods cannot be interrupted by another thread or by a destructor. asyncio logs in destructors.
        self._queue: deque[str | EventDict] = deque()
        self._characters = 0
        """In the queue."""
        self._dropped = 0
        self._taken = b""
        """Lines that have left the queue. The file has the first `_written` bytes of them."""
        self._written = 0
        # Only a pipe or a terminal may make the process wait.
        self._chunk = sys.maxsize if stat.S_ISREG(os.fstat(file).st_mode) else _PIPE_CHUNK
        self._writing = Lock()
        self._paused_at = float("-inf")
        self._due_in: AbstractEventLoop | None = None
        """The event loop that is going to write the queue."""

    def write(self, line: str | EventDict, *, urgent: bool = False) -> None:
        """Queues a whole line, or an event that nobody changes any more. An urgent one ends the pause."""
        if self._characters >= MOST_CHARACTERS:
            self._dropped += 1
            return
        if self._dropped:
            self._report_dropped()
        self._put(line)
        if urgent or self._due_in is None or self._due_in.is_closed():
            self._write_soon(urgent=urgent)

    def close(self) -> None:
        """Writes what is queued, for CLOSING_PATIENCE at most."""
        if self._dropped:
            self._report_dropped()
        until = time.monotonic() + CLOSING_PATIENCE
        try:
            while (left := self._write_batch()) and (seconds := until - time.monotonic()) > 0:
                if left is Left.UNTAKEN:
                    self._takes_more(within=seconds)
        except OSError:
            return

    def _write_soon(self, *, urgent: bool) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        if urgent or loop is None:
            self._write_out(loop)
        else:
            self._schedule(loop, self._paused_at + PAUSE - time.monotonic())

    def _schedule(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._due_in = loop
        loop.call_later(seconds, self._write_due, loop)

    def _write_due(self, loop: AbstractEventLoop) -> None:
        self._due_in = None
        self._write_out(loop)

    def _write_out(self, loop: AbstractEventLoop | None) -> None:
        try:
            left = self._write_batch()
        except OSError:  # such as a full disk, or a reader that is gone
            left = Left.FAILED
        if left is None or loop is None or self._due_in is loop:
            return
        match left:
            case Left.UNTAKEN:
                self._due_in = loop
                loop.add_writer(self._file, self._write_taken, loop)
            case Left.QUEUED:
                self._schedule(loop, 0)
            case Left.FAILED:
                self._schedule(loop, RETRY)

    def _write_taken(self, loop: AbstractEventLoop) -> None:
        loop.remove_writer(self._file)
        self._write_due(loop)

    def _write_batch(self) -> Left | None:
        """Writes, and says why lines are left. After an error, the next batch goes on in the middle of the line.

        Raises OSError.
        """
        if not self._writing.acquire(blocking=False):
            return Left.QUEUED
        try:
            if self._written == len(self._taken):
                self._take_lines()
            while chunk := self._next_chunk():
                if not self._takes_more():
                    return Left.UNTAKEN
                self._written += os.write(self._file, chunk)
        except BlockingIOError:
            return Left.UNTAKEN  # somebody else has written to the same pipe
        finally:
            self._paused_at = time.monotonic()
            self._writing.release()
        return Left.QUEUED if self._queue else None

    def _take_lines(self) -> None:
        queued = [self._queue.popleft() for _ in range(min(len(self._queue), MOST_AT_ONCE))]
        self._characters -= sum(map(_characters, queued))
        if not self._queue:
            self._characters = 0  # threads may have miscounted together
        lines = [line if isinstance(line, str) else self._render(line) + "\n" for line in queued]
        self._taken, self._written = "".join(lines).encode("utf-8", "backslashreplace"), 0

    def _next_chunk(self) -> bytes:
        """Whole lines if they fit, so that they stay whole where other processes write to the same file."""
        end = self._written + self._chunk
        return self._taken[self._written : self._taken.rfind(b"\n", self._written, end) + 1 or end]

    def _takes_more(self, *, within: float = 0) -> bool:
        if os.name == "nt":  # where only sockets can be asked
            return True
        return bool(select.select((), (self._file,), (), within)[1])

    def _report_dropped(self) -> None:
        lines, self._dropped = self._dropped, 0
        self._put(
            {
                "lines": lines,
                "event": "log lines were dropped",
                "level": "warning",
                "logger": __name__,
                "timestamp": time.time(),
            }
        )

    def _put(self, line: str | EventDict) -> None:
        self._characters += _characters(line)
        self._queue.append(line)


def _characters(line: str | EventDict) -> int:
    return len(line) if isinstance(line, str) else _OF_AN_EVENT
