"""Counts the users of pools, and makes the error of these counts for a request that gets no user."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import pool_queries
from botfarm.db.waiting import waiting_list_queries
from botfarm.domain.access import Scope
from botfarm.domain.leases import LeaseRequest, Purpose, WantedUsers
from botfarm.domain.pools import Pool, PoolCounts, PoolUsage
from botfarm.domain.waiting import Ticket, TicketFilter
from botfarm.errors import PoolExhaustedError
from botfarm.services.shared.batching import GroupedBatcher

MAX_BATCH = 500
# In a large pool a count takes long. A crowd that asks for many sets of labels leaves connections for others.
COUNTS_AT_ONCE = 2

_Kind = tuple[Pool, WantedUsers]


class Pools:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._counts_at_once = asyncio.Semaphore(COUNTS_AT_ONCE)
        self._counts = GroupedBatcher[_Kind, None, PoolCounts](self._count, max_batch=MAX_BATCH)
        self._lists = GroupedBatcher[Scope, None, Sequence[PoolUsage]](self._list, max_batch=MAX_BATCH)

    async def list(self, scope: Scope) -> Sequence[PoolUsage]:
        """Every pool of the scope that has users, with its counts at a moment after the call.

        Equal scopes share a statement, because a change makes all open pages ask at once.
        """
        return await self._lists.submit(scope, None)

    async def _list(self, scope: Scope, requests: Sequence[None]) -> Sequence[Sequence[PoolUsage]]:
        async with self._database.autocommit() as session:
            pools = await pool_queries.count_pools(session, scope)
        return [pools] * len(requests)

    async def waiting(self, scope: Scope, chosen: TicketFilter) -> Sequence[Ticket]:
        """The waiting requests, pool by pool, in the order in which they will be served."""
        async with self._database.autocommit() as session:
            return await waiting_list_queries.list_waiting(session, scope, chosen)

    async def count(self, request: LeaseRequest) -> PoolCounts:
        """Counts the users that the request wants, at a moment after the call.

        Equal questions share a statement.
        """
        return await self._counts.submit((request.pool, request.wanted), None)

    async def _count(self, kind: _Kind, requests: Sequence[None]) -> Sequence[PoolCounts]:
        pool, wanted = kind
        async with self._counts_at_once, self._database.autocommit() as session:
            counts = await pool_queries.count_pool(session, pool, wanted)
        return [counts] * len(requests)


def pool_exhausted(
    counts: PoolCounts, request: LeaseRequest, *, waited: float, place: int | None = None
) -> PoolExhaustedError:
    """The error for a request that gets no user.

    `waited` in seconds; `place` is where a waiting request stood in the queue.
    """
    detail = None
    if request.purpose is Purpose.CHORE:
        detail = "No chore is due: `wait_seconds` waits for the next one."
        counts = replace(counts, next_free_in=None)
    elif request.user_id is not None:
        detail = _of_one_user(counts)
    elif counts.free > 0:
        detail = "The users that are free are for those who wait: set `wait_seconds` to stand in their line."
    elif counts.next_free_in is None:
        detail = "The users that match wait for a keeper or are quarantined: time frees none."
    return PoolExhaustedError(
        detail,
        waited=round(waited, 3),
        total=counts.total,
        leased=counts.leased,
        resting=counts.resting,
        dirty=counts.dirty,
        quarantined=counts.quarantined,
        waiting=counts.waiting,
        next_free_in=None if counts.next_free_in is None else round(counts.next_free_in, 3),
        **({} if place is None else {"place": place}),
    )


def _of_one_user(counts: PoolCounts) -> str:
    if counts.free > 0:
        return "This user is for a request that waits: set `wait_seconds` to stand in its line."
    if counts.dirty > 0:
        return "This user is dirty: it waits for a keeper."
    return "This user is taken; `next_free_in` says when it is due."
