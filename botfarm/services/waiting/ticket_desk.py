"""Requests that come to wait get their tickets: many with one statement, each at the place of the moment when it arrived."""

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from datetime import datetime
from typing import Generic
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import Arriving
from botfarm.domain.waiting import WaitingRequest
from botfarm.errors import IdempotencyKeyReusedError
from botfarm.services.shared.batching import Coalescer
from botfarm.services.waiting.local_waiters import GrantedT, Waiter
from botfarm.services.waiting.replica_heartbeat import Presence

MAX_BATCH = 100


class Arrival(Generic[GrantedT]):
    def __init__(self, request: WaitingRequest, *, started: float, deadline: float) -> None:
        """By the monotonic clock."""
        self.request = request
        self.started = started
        self.deadline = deadline
        self.waiter: Waiter[GrantedT] | None = None
        """With its ticket, as soon as there is one."""
        self.is_abandoned = False


class Arrivals(Generic[GrantedT]):
    def __init__(
        self,
        database: Database,
        listener: Listener | None,
        presence: Presence,
        *,
        replica_id: UUID,
        arriving: asyncio.Lock,
        admit: Callable[[Waiter[GrantedT]], None],
    ) -> None:
        """`arriving` is held while tickets are made, until `admit` has been called for each of them."""
        self._database = database
        self._listener = listener
        self._presence = presence
        self._replica_id = replica_id
        self._admit = admit
        self._arriving = arriving
        self._latest: datetime | None = None
        self._parking = Coalescer[Arrival[GrantedT], Waiter[GrantedT] | None](
            self._park, max_batch=MAX_BATCH, key=_key
        )

    async def park(self, arrival: Arrival[GrantedT]) -> Waiter[GrantedT]:
        """If it is cancelled or fails, the ticket may be there all the same.

        Raises IdempotencyKeyReusedError when the key has a place for another request.
        """
        waiter = await self._parking.submit(arrival)
        if waiter is None:
            raise IdempotencyKeyReusedError
        return waiter

    async def _park(self, arrivals: Sequence[Arrival[GrantedT]]) -> list[Waiter[GrantedT] | None]:
        async with self._arriving:
            await self._presence.begin()
            if self._listener:
                for project_id in {arrival.request.pool.project_id for arrival in arrivals}:
                    await self._listener.listen(project_id)
            now = time.monotonic()
            wanted = [
                Arriving(each.request, since=now - each.started, seconds=max(0.0, each.deadline - now))
                for each in arrivals
            ]
            async with self._database.autocommit() as session:
                tickets, self._latest = await ticket_queries.park(
                    session, wanted, replica=self._replica_id, not_before=self._latest
                )
            for arrival, ticket in zip(arrivals, tickets, strict=True):
                if ticket and not arrival.is_abandoned:
                    arrival.waiter = Waiter(arrival.request, ticket)
                    self._admit(arrival.waiter)
            return [arrival.waiter for arrival in arrivals]


def _key(arrival: Arrival[GrantedT]) -> Hashable | None:
    key = arrival.request.idempotency_key
    return None if key is None else (arrival.request.principal, key)
