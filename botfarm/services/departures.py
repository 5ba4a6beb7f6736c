"""Tickets that leave without a user, and what is said of the pool to those who held them: many with one statement."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from botfarm.db import acquire_queries, ticket_queries
from botfarm.db.engine import Database
from botfarm.db.ticket_queries import Left, Parked
from botfarm.domain import Pool, PoolCounts
from botfarm.services.coalescing import Coalescer, Coalescers

MAX_BATCH = 500
# A crowd that goes leaves connections for those who stay.
COUNTS_AT_ONCE = 2

Group = tuple[Pool, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class _Leaving:
    ticket: Parked
    keeps_place: bool


class Departures:
    def __init__(self, database: Database, replica_id: UUID) -> None:
        self._database = database
        self._replica_id = replica_id
        self._counting = asyncio.Semaphore(COUNTS_AT_ONCE)
        self._leaving = Coalescer[_Leaving, Left | None](self._leave, max_batch=MAX_BATCH)
        self._counts = Coalescers[Group, None, PoolCounts](self._count, max_batch=MAX_BATCH)

    async def leave(self, ticket: Parked, *, keeps_place: bool) -> Left | None:
        """The place is kept for the ticket's key, if it has one. None when the ticket is not this replica's any more."""
        return await self._leaving.submit(_Leaving(ticket, keeps_place))

    async def count(self, pool: Pool, labels: Mapping[str, str]) -> PoolCounts:
        return await self._counts.submit((pool, tuple(sorted(labels.items()))), None)

    async def _leave(self, leaving: Sequence[_Leaving]) -> list[Left | None]:
        tickets = [(each.ticket, each.keeps_place) for each in leaving]
        async with self._database.autocommit() as session:
            left = await ticket_queries.leave(session, tickets, replica=self._replica_id)
        return [left.get(each.ticket.id) for each in leaving]

    async def _count(self, group: Group, askers: Sequence[None]) -> list[PoolCounts]:
        pool, labels = group
        async with self._counting, self._database.autocommit() as session:
            counts = await acquire_queries.count_pool(session, pool, labels=dict(labels))
        return [counts] * len(askers)
