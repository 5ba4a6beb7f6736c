"""A loop that runs one step when it is woken, or when its next step is due."""

import asyncio
from collections.abc import Awaitable, Callable


class WakeableLoop:
    """Runs one step at a time. A wake during a step leads to another step, so no wake is lost."""

    def __init__(self, step: Callable[[], Awaitable[float | None]]) -> None:
        """`step` never raises. It returns the seconds until the next step is due, or None when only a wake makes one."""
        self._step = step
        self._due_at = float("inf")
        self._is_earlier = asyncio.Event()
        self._is_closed = False
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.wake_within(0)

    def wake_within(self, seconds: float) -> None:
        """Runs a step in so many seconds, unless one is due earlier."""
        due_at = asyncio.get_running_loop().time() + seconds
        if self._is_closed or due_at >= self._due_at:
            return
        self._due_at = due_at
        self._is_earlier.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Lets a step in flight finish, and starts no other."""
        self._is_closed = True
        self._due_at = float("-inf")
        self._is_earlier.set()
        if self._running:
            await self._running

    async def _run(self) -> None:
        try:
            while self._due_at < float("inf"):
                await self._until_due()
                if self._is_closed:
                    return
                self._due_at = float("inf")
                seconds = await self._step()
                if seconds is not None:
                    self.wake_within(seconds)
        finally:
            self._running = None

    async def _until_due(self) -> None:
        while (seconds := self._due_at - asyncio.get_running_loop().time()) > 0:
            self._is_earlier.clear()
            try:
                await asyncio.wait_for(self._is_earlier.wait(), seconds)
            except TimeoutError:
                return
