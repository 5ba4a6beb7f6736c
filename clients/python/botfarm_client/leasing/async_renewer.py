import asyncio
from collections.abc import Coroutine
from contextlib import suppress

from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.leasing.lease_clock import Hold, Renewal
from botfarm_client.leasing.renewer import Look


class AsyncKeeper:
    """One task looks at all leases of a farm; each renewal is a task of its own. There is none while nothing is kept."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._holds: dict[Hold, Look] = {}
        self._looking: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    def keep(self, hold: Hold, look: Look) -> None:
        self._holds[hold] = look
        if self._looking is None:
            self._looking = self._begin(self._look_after())
        self._changed.set()

    def forget(self, hold: Hold) -> None:
        self._holds.pop(hold, None)
        if not self._holds and self._looking:
            self._looking.cancel()
            self._looking = None

    def kept(self) -> list[Hold]:
        return list(self._holds)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_after(self) -> None:
        while holds := dict(self._holds):
            self._changed.clear()
            for hold, look in holds.items():
                if look():
                    self._holds.pop(hold, None)
                elif renewal := hold.due():
                    _ = self._begin(self._renew(renewal, hold, look))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), min(hold.rest() for hold in holds))
        self._looking = None

    async def _renew(self, renewal: Renewal, hold: Hold, look: Look) -> None:
        try:
            hold.renewed(await self._connection.send(renewal.call), renewal.asked_at)
        except Exception as error:  # noqa: BLE001  else it would count as under way for ever
            hold.not_renewed(error)
        look()
        self._changed.set()

    def _begin(self, work: Coroutine[object, object, None]) -> "asyncio.Future[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
