"""Turns at the database for those who ask for users, and the end of every wait when this process stops."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from botfarm.db.postgres.engine import CHECK_OUT_PATIENCE
from botfarm.errors import ConnectionsBusyError, ShuttingDownError

T = TypeVar("T")

RETRY_PAUSE = 0.05


class Turns:
    """Fewer at once than there are connections, so that a crowd leaves some for releases and renewals."""

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every pause now, with ShuttingDownError."""
        self._stopping.set()

    async def take(self, work: Callable[[], Awaitable[T]], *, deadline: float) -> T:
        """Does the work when it is its turn. Who waits for a user waits for that too; others are told after a moment.

        The deadline is of the monotonic clock. Raises ConnectionsBusyError, ShuttingDownError.
        """
        while True:
            moment = max(CHECK_OUT_PATIENCE, deadline - time.monotonic())
            try:
                await asyncio.wait_for(self._free.acquire(), moment)
            except TimeoutError:
                raise ConnectionsBusyError("too many requests for users at once") from None
            try:
                return await work()
            except ConnectionsBusyError:
                if time.monotonic() >= deadline:
                    raise
            finally:
                self._free.release()
            await self.pause(RETRY_PAUSE)

    async def pause(self, seconds: float) -> None:
        """Raises ShuttingDownError."""
        try:
            await asyncio.wait_for(self._stopping.wait(), timeout=seconds)
        except TimeoutError:
            return
        raise ShuttingDownError
