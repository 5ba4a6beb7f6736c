"""Inserts the tickets of waiting requests, and withdraws those of requests that get no user, in batches."""

import asyncio
import time
from collections.abc import Hashable, Sequence
from datetime import datetime
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import HeldTicket, LastPlace, NewTicket
from botfarm.errors import IdempotencyKeyReusedError
from botfarm.services.shared.batching import Batcher
from botfarm.services.waiting.local_waiters import LocalWaiters, Waiter
from botfarm.services.waiting.replica_heartbeat import ReplicaHeartbeat

MAX_NEW = 100
MAX_WITHDRAWN = 500


class TicketDesk:
    def __init__(
        self,
        database: Database,
        listener: Listener | None,
        heartbeat: ReplicaHeartbeat,
        waiters: LocalWaiters,
        *,
        replica_id: UUID,
    ) -> None:
        self._database = database
        self._listener = listener
        self._heartbeat = heartbeat
        self._waiters = waiters
        self._replica_id = replica_id
        self._latest_arrival: datetime | None = None
        self._new = Batcher[Waiter, bool](self._insert, max_batch=MAX_NEW, key=_key)
        self._withdrawn = Batcher[tuple[HeldTicket, bool], LastPlace | None](
            self._withdraw, max_batch=MAX_WITHDRAWN
        )

    async def insert(self, waiter: Waiter) -> None:
        """Gives the waiter a ticket, and adds it to the local waiters.

        If the waiter is leaving by then, the ticket is a stray. When this is cancelled or fails, the ticket
        may have been inserted all the same.
        Raises IdempotencyKeyReusedError when the key has a ticket of another request.
        """
        if not await self._new.submit(waiter):
            raise IdempotencyKeyReusedError

    async def withdraw(self, ticket: HeldTicket, *, keep_place: bool) -> LastPlace | None:
        """Deletes the ticket; with `keep_place`, its place is kept for its key, if it has one.

        None when the ticket was not this replica's any more.
        """
        return await self._withdrawn.submit((ticket, keep_place))

    async def withdraw_all(self, tickets: Sequence[HeldTicket]) -> None:
        """Deletes the tickets with one statement of their own. Places are kept for keys."""
        await self._withdraw([(ticket, True) for ticket in tickets])

    async def _insert(self, waiters: Sequence[Waiter]) -> list[bool]:
        async with self._waiters.being_inserted:
            await asyncio.gather(self._heartbeat.begin(), self._listen(waiters))
            now = time.monotonic()
            new = [
                NewTicket(each.request, since=now - each.started, seconds=max(0.0, each.deadline - now))
                for each in waiters
            ]
            async with self._database.autocommit() as session:
                tickets, self._latest_arrival = await ticket_queries.insert_tickets(
                    session, new, replica=self._replica_id, not_before=self._latest_arrival
                )
            for waiter, ticket in zip(waiters, tickets, strict=True):
                if ticket and not waiter.is_leaving:
                    waiter.admit(ticket)
                    self._waiters.add(waiter)
            return [ticket is not None for ticket in tickets]

    async def _listen(self, waiters: Sequence[Waiter]) -> None:
        if self._listener:
            for project_id in {waiter.request.pool.project_id for waiter in waiters}:
                await self._listener.listen(project_id)

    async def _withdraw(self, tickets: Sequence[tuple[HeldTicket, bool]]) -> list[LastPlace | None]:
        async with self._database.autocommit() as session:
            last_places = await ticket_queries.withdraw_tickets(session, tickets, replica=self._replica_id)
        return [last_places.get(ticket.id) for ticket, _ in tickets]


def _key(waiter: Waiter) -> Hashable | None:
    key = waiter.request.terms.idempotency_key
    return None if key is None else (waiter.request.principal.name, key)
