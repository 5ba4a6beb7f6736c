"""Heartbeat of this replica, once a second while requests wait here.

Tickets of a replica without one are ignored.
"""

import asyncio
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.waiting import ticket_queries
from botfarm.errors import UnavailableError
from botfarm.logs import get_logger
from botfarm.services.waiting.local_waiters import LocalWaiters
from botfarm.services.waiting.waiting_places import WaitingPlaces

logger = get_logger(__name__)

INTERVAL = 1.0
"""Seconds. After five seconds without a heartbeat the replica's tickets count no more."""


class ReplicaHeartbeat:
    def __init__(
        self, database: Database, places: WaitingPlaces, waiters: LocalWaiters, *, replica_id: UUID
    ) -> None:
        """Beats while places are taken.

        The replica's tickets without a waiter are strays, which it withdraws.
        """
        self._database = database
        self._places = places
        self._waiters = waiters
        self._replica_id = replica_id
        self._may_have_strays = False
        self._recorded_at = float("-inf")
        self._recording = asyncio.Lock()
        self._beating: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Call it before a ticket is inserted, so that the ticket counts from its insertion on."""
        async with self._recording:
            if asyncio.get_running_loop().time() - self._recorded_at >= INTERVAL:
                await self._record()
        self._go_on()

    def suspect_strays(self) -> None:
        """Says that there may be a ticket without a waiter. The next beat looks for it."""
        self._may_have_strays = True
        self._go_on()

    async def close(self) -> None:
        if self._beating:
            self._beating.cancel()
            await asyncio.wait({self._beating})

    def _go_on(self) -> None:
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        try:
            while True:
                await asyncio.sleep(INTERVAL)
                if not self._places.are_taken and not self._may_have_strays:
                    return
                try:
                    await self._record()
                    if self._may_have_strays:
                        await self._withdraw_strays()
                except UnavailableError:
                    pass  # the engine has logged it
                except Exception:
                    logger.exception("the heartbeat failed")
        finally:
            self._beating = None

    async def _record(self) -> None:
        async with self._database.autocommit() as session:
            await ticket_queries.record_heartbeat(session, self._replica_id)
        self._recorded_at = asyncio.get_running_loop().time()

    async def _withdraw_strays(self) -> None:
        """Keeps the places of strays that have a key, because their callers may come back."""
        async with self._waiters.being_inserted, self._database.autocommit() as session:
            self._may_have_strays = False
            try:
                known = self._waiters.ticket_ids()
                strays = await ticket_queries.strays(session, self._replica_id, known=known)
                await ticket_queries.withdraw_tickets(
                    session, [(stray, True) for stray in strays], replica=self._replica_id
                )
            except BaseException:
                self._may_have_strays = True
                raise
