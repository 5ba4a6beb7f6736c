"""Counts a pool's users. Requests that ask for the same counts at the same time share one statement."""

import asyncio
from collections.abc import Mapping, Sequence

from botfarm.db.leasing import acquire_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.services.shared.coalescing import Coalescers

MAX_BATCH = 500
# Counts at a time, because a count of a large pool takes long, and other statements need connections, too.
AT_ONCE = 2

Labels = tuple[tuple[str, str], ...]
"""Sorted, so that equal labels are one group."""


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


class PoolCounting:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._counts = Coalescers[tuple[Pool, Labels], None, PoolCounts](self._count, max_batch=MAX_BATCH)

    async def count(self, pool: Pool, labels: Labels) -> PoolCounts:
        """Counts of a moment after the call."""
        return await self._counts.submit((pool, labels), None)

    async def _count(self, group: tuple[Pool, Labels], askers: Sequence[None]) -> list[PoolCounts]:
        pool, labels = group
        async with self._at_once, self._database.autocommit() as session:
            counts = await acquire_queries.count_pool(session, pool, labels=dict(labels))
        return [counts] * len(askers)
