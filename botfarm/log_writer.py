"""Writes log lines in batches from a thread, so that an event loop never waits for the reader of its log."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from select import select
from threading import Thread

from structlog.typing import EventDict

MOST_LINES = 20_000
"""Lines that are queued while nobody reads, about 10 MB. Further lines are counted and dropped."""
PAUSE = 0.1
"""Seconds from one batch to the next one. The first line after a pause is written at once."""
RETRY = 1.0
"""Seconds after a write that failed."""
CLOSING_PATIENCE = 2.0
"""Seconds in which the last lines are written while the process ends."""


class LogWriter:
    """Keeps the order of lines. A kill by force loses the lines of the last pause."""

    def __init__(self, file: int, render: Callable[[EventDict], str]) -> None:
        """`file` is a file descriptor. `render` makes an event that was not rendered yet a line without its end."""
        self._file = file
        self._render = render
        # Unlike locks and events, a SimpleQueue can be used again by a destructor that interrupts its `put`. asyncio
        # logs in destructors.
        self._queue: SimpleQueue[str | EventDict] = SimpleQueue()
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._dropped = 0
        self._reported = 0
        self._closing = False
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, line: str | EventDict, *, urgent: bool = False) -> None:
        """Queues a whole line, or an event that nobody changes any more. An urgent one ends the pause."""
        if self._queue.qsize() >= MOST_LINES:
            self._dropped += 1
            return
        self._queue.put(line)
        if urgent:
            self._end_pause()

    def close(self) -> None:
        """Writes what is queued. Gives up when the reader takes longer than CLOSING_PATIENCE."""
        self._closing = True
        self._queue.put("")
        self._end_pause()
        self._thread.join(CLOSING_PATIENCE)

    def _run(self) -> None:
        while not self._closing or not self._queue.empty():
            self._write_out(self._next_batch())
            self._pause(PAUSE)

    def _next_batch(self) -> bytes:
        """Waits for a line. Gives it and all lines behind it."""
        queued = [self._queue.get()]
        queued += [self._queue.get() for _ in range(self._queue.qsize())]
        lines = [line if isinstance(line, str) else self._render(line) + "\n" for line in queued]
        if missing := self._dropped - self._reported:
            self._reported += missing
            lines.append(self._render(_dropped_event(missing)) + "\n")
        return "".join(lines).encode("utf-8", "backslashreplace")

    def _write_out(self, batch: bytes) -> None:
        """Goes on in the middle of a line after an error, such as a full disk or a reader that is gone."""
        rest = memoryview(batch)
        while rest:
            try:
                rest = rest[os.write(self._file, rest) :]
            except BlockingIOError:  # whoever started this process may have made the file non-blocking
                select((), (self._file,), (), RETRY)
            except OSError:
                if self._closing:
                    return
                self._pause(RETRY)

    def _pause(self, seconds: float) -> None:
        if not self._closing:
            with suppress(Empty):
                self._hurry.get(timeout=seconds)

    def _end_pause(self) -> None:
        if self._hurry.empty():
            self._hurry.put(None)


def _dropped_event(lines: int) -> EventDict:
    return {
        "lines": lines,
        "event": "log lines were dropped",
        "level": "warning",
        "logger": __name__,
        "timestamp": time.time(),
    }
