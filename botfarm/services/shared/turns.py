"""Turns for work that takes long: a few at a time, and a few more that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from botfarm.errors import SlowDownError

RETRY_AFTER = 10
"""Seconds."""


class Turns:
    def __init__(self, at_once: int, *, asking: int, busy: str) -> None:
        """`asking` counts also those that wait; `busy` is what everyone beyond it is told."""
        self._turns = asyncio.Semaphore(at_once)
        self._asking, self._most = 0, asking
        self._busy = busy

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a turn. Raises SlowDownError when as many as may ask do already."""
        if self._asking >= self._most:
            raise SlowDownError(self._busy, retry_after=RETRY_AFTER)
        self._asking += 1
        try:
            async with self._turns:
                yield
        finally:
            self._asking -= 1
