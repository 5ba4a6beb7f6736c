"""Work that is to be done again and again: when somebody says so, and when its time has come."""

import asyncio
from collections.abc import Awaitable, Callable


class Lookout:
    """One look at a time. A wake that comes while one is under way makes another one, so it is never lost."""

    def __init__(self, look: Callable[[], Awaitable[float | None]]) -> None:
        """`look` never raises; it returns the seconds until the next look, unless somebody wakes it before."""
        self._look = look
        self._is_woken = False
        self._is_closed = False
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop gives a Handle without `when` for a time that is past

    def wake(self) -> None:
        if self._is_closed:
            return
        self._is_woken = True
        if self._looking is None:
            self._looking = asyncio.create_task(self._work())

    def wake_within(self, seconds: float) -> None:
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        if self._timer is None or when < self._timer_at:
            self._end_timer()
            self._timer_at = when
            self._timer = loop.call_at(when, self.wake)

    async def close(self) -> None:
        """A look that is under way finishes first."""
        self._is_closed = True
        self._is_woken = False
        self._end_timer()
        if self._looking:
            await self._looking

    async def _work(self) -> None:
        try:
            while self._is_woken:
                self._is_woken = False
                self._end_timer()
                seconds = await self._look()
                if seconds is not None:
                    self.wake_within(seconds)
        finally:
            self._looking = None

    def _end_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
