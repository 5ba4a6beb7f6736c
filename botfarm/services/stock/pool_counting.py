"""How a pool stands, for those who get nobody: all who ask at the same time are told with one statement."""

import asyncio
from collections.abc import Mapping, Sequence

from botfarm.db.leasing import acquire_user_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.services.shared.batching import Coalescers

MAX_BATCH = 500
# In a large pool a count takes its time: a crowd that asks for many kinds of users leaves connections for the others.
AT_ONCE = 2

Labels = tuple[tuple[str, str], ...]
"""Sorted, so that equal ones are one group."""


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


class PoolCounting:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._counts = Coalescers[tuple[Pool, Labels], None, PoolCounts](self._count, max_batch=MAX_BATCH)

    async def count(self, pool: Pool, labels: Labels) -> PoolCounts:
        """Of a moment after the call."""
        return await self._counts.submit((pool, labels), None)

    async def _count(self, group: tuple[Pool, Labels], askers: Sequence[None]) -> list[PoolCounts]:
        pool, labels = group
        async with self._at_once, self._database.autocommit() as session:
            counts = await acquire_user_queries.count_pool(session, pool, labels=dict(labels))
        return [counts] * len(askers)
