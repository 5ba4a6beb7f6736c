"""Limits how many requests for users have a database connection at the same time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from botfarm.db.postgres.engine import CHECK_OUT_PATIENCE
from botfarm.errors import ConnectionsBusyError
from botfarm.services.shared.shutdown import Shutdown

T = TypeVar("T")

RETRY_PAUSE = 0.05
"""Seconds."""


class AcquireLimiter:
    def __init__(self, limit: int, shutdown: Shutdown) -> None:
        """The limit is below the number of connections, to leave some for releases and renewals."""
        self._free = asyncio.Semaphore(limit)
        self._shutdown = shutdown

    async def run(self, work: Callable[[], Awaitable[T]], *, deadline: float) -> T:
        """Runs `work` as soon as the limit allows, and again while all connections are in use.

        Gives up at `deadline` (monotonic clock), but not before `CHECK_OUT_PATIENCE` seconds.
        Raises ConnectionsBusyError then, and ShuttingDownError.
        """
        while True:
            timeout = max(CHECK_OUT_PATIENCE, deadline - time.monotonic())
            try:
                await asyncio.wait_for(self._free.acquire(), timeout)
            except TimeoutError:
                raise ConnectionsBusyError("too many requests for users at once") from None
            try:
                return await work()
            except ConnectionsBusyError:
                if time.monotonic() >= deadline:
                    raise
            finally:
                self._free.release()
            await self._shutdown.pause(RETRY_PAUSE)
