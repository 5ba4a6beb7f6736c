import asyncio
from collections.abc import Coroutine
from contextlib import suppress

from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.leasing.lease_clock import LeaseClock, Renewal
from botfarm_client.leasing.renewer import Look


class AsyncRenewer:
    """Renews leases in tasks of one event loop.

    One task checks all leases of a farm, and each renewal is a task of its own. Without leases there is
    no task.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._clocks: dict[LeaseClock, Look] = {}
        self._watcher: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def add(self, lease_clock: LeaseClock, look: Look) -> None:
        self._clocks[lease_clock] = look
        if self._watcher is None:
            self._watcher = self._begin(self._watch())
        self._changed.set()

    def remove(self, lease_clock: LeaseClock) -> None:
        self._clocks.pop(lease_clock, None)
        if not self._clocks and self._watcher:
            self._watcher.cancel()
            self._watcher = None

    def lease_clocks(self) -> list[LeaseClock]:
        return list(self._clocks)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        while lease_clocks := dict(self._clocks):
            self._changed.clear()
            for lease_clock, look in lease_clocks.items():
                if look():
                    self._clocks.pop(lease_clock, None)
                elif renewal := lease_clock.due():
                    _ = self._begin(self._renew(renewal, lease_clock, look))
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    self._changed.wait(), min(lease_clock.rest() for lease_clock in lease_clocks)
                )
        self._watcher = None

    async def _renew(self, renewal: Renewal, lease_clock: LeaseClock, look: Look) -> None:
        try:
            lease_clock.renewed(await self._connection.send(renewal.call), renewal.asked_at)
        except Exception as error:  # noqa: BLE001  else it would stay in flight for ever
            lease_clock.not_renewed(error)
        look()
        self._changed.set()

    def _begin(self, work: Coroutine[object, object, None]) -> "asyncio.Future[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
