"""Says how many users pools need, by a replay of what was asked of them."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.usage import demand_queries
from botfarm.db.usage.demand_queries import EqualUsers, RecordedLease, RefusedKind
from botfarm.domain.access import Scope
from botfarm.domain.capacity import PoolCapacity, WaitGoal
from botfarm.domain.pools import Pool, PoolUsage
from botfarm.domain.projects import ProjectPolicy
from botfarm.services.shared.turns import Turns
from botfarm.services.stock.pools import Pools
from botfarm.services.stock.projects import Projects
from botfarm.services.usage.advice import advice_of, limits_of
from botfarm.services.usage.demand import demand_of
from botfarm.services.usage.sizing import DAY, size_pool

# Seconds that the reading of a pool's history may take.
PATIENCE = 20.0
MAX_REQUESTS = 200_000
"""Of a replay. Of a longer history only the last days are replayed."""
# Rows of a page: reading one keeps the event loop busy for milliseconds.
BATCH = 1_000
MAX_ASKING = 4
"""Requests of one process that a replay is made for, or that wait for their turn."""
# Seconds for which an answer is kept.
KEPT_FOR = 300.0
MAX_KEPT = 100


@dataclass(frozen=True, slots=True)
class _Record:
    leases: list[RecordedLease]
    refused: list[RefusedKind]
    users: list[EqualUsers]
    since: datetime
    now: datetime


class Capacity:
    def __init__(self, database: Database, projects: Projects, pools: Pools) -> None:
        self._database = database
        self._projects = projects
        self._pools = pools
        # A replay takes seconds of the processor. So a process has one at a time, in a thread.
        self._turns = Turns(1, asking=MAX_ASKING, busy="Others wait for a replay at this replica.")
        self._kept: dict[object, tuple[float, PoolCapacity]] = {}

    async def of_pools(
        self,
        scope: Scope,
        goal: WaitGoal,
        *,
        project_id: UUID,
        env: str | None = None,
        domain: str | None = None,
    ) -> list[PoolCapacity]:
        """The project's pools that have users, those of the env and the domain where they are given.

        An answer may be five minutes old, unless the number of users has changed. Raises NoSuchProjectError, and
        SlowDownError when others wait for a replay already.
        """
        project = await self._projects.get(scope, project_id)
        pools = [
            usage
            for usage in await self._pools.list(scope)
            if usage.pool.project_id == project_id
            and env in {None, usage.pool.env}
            and domain in {None, usage.pool.domain}
        ]
        async with self._turns.one():
            return [await self._of_pool(usage, project.policy, goal) for usage in pools]

    async def _of_pool(self, usage: PoolUsage, policy: ProjectPolicy, goal: WaitGoal) -> PoolCapacity:
        key = usage.pool, usage.counts.total, usage.counts.quarantined, policy, goal
        kept_until, capacity = self._kept.get(key, (0.0, None))
        if capacity is None or kept_until < time.monotonic():
            record = await self._read(usage.pool, goal)
            capacity = await asyncio.to_thread(_capacity_of, usage, record, policy, goal)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = time.monotonic() + KEPT_FOR, capacity
        return capacity

    async def _read(self, pool: Pool, goal: WaitGoal) -> _Record:
        async with self._database.long_reading(patience=PATIENCE) as session:
            now = (await demand_queries.read_clock(session)).astimezone(UTC)
            today = now.replace(hour=0, minute=0, second=0, microsecond=0)
            since = today - timedelta(days=goal.days - 1)
            first = await demand_queries.first_fence(session, since)
            leases = list[RecordedLease]()
            before = demand_queries.ABOVE_ALL_FENCES
            while len(leases) <= MAX_REQUESTS:
                batch = await demand_queries.read_leases(
                    session, pool, since=since, first=first, before=before, limit=BATCH
                )
                leases += batch
                if len(batch) < BATCH:
                    break
                before = batch[-1].fence
            refused = await demand_queries.read_refused(session, pool, since=since, limit=MAX_REQUESTS)
            users = await demand_queries.read_users(session, pool)
        return _Record(leases, refused, users, since, now)


def _capacity_of(usage: PoolUsage, record: _Record, policy: ProjectPolicy, goal: WaitGoal) -> PoolCapacity:
    since = _start_of_replay(record)
    demand = demand_of(record.leases, record.refused, record.users, policy, since=since.timestamp())
    sizing = None
    if demand.tests:
        sizing = size_pool(demand.requests, demand.users, goal, until=record.now.timestamp())
    capacity = PoolCapacity(
        pool=usage.pool,
        project_name=usage.project_name,
        in_service=sum(equal.users for equal in record.users),
        needed=sizing.needed if sizing else None,
        worst_day=datetime.fromtimestamp(sizing.worst_day, UTC).date() if sizing else None,
        sizes=sizing.sizes if sizing else (),
        erlang_c=sizing.erlang_c if sizing else None,
        requests=demand.tests,
        imputed=demand.imputed,
        rest_costs=sizing.rest_costs if sizing else None,
        days=len({request.arrival // DAY for request in demand.requests if request.is_test}),
        advice="",
        limits=(),
    )
    refused = sum(kind.requests for kind in record.refused)
    was_cut = since > record.since
    return replace(
        capacity,
        advice=advice_of(capacity, goal, demand, refused=refused, was_cut=was_cut),
        limits=limits_of(capacity, goal, demand, since=since, was_cut=was_cut),
    )


def _start_of_replay(record: _Record) -> datetime:
    """The start of the record, or of its last whole days that have at most `MAX_REQUESTS` together."""
    by_day = Counter(lease.requested_at // DAY for lease in record.leases)
    for kind in record.refused:
        by_day[kind.minute // DAY] += kind.requests
    start, total = record.since, 0
    for day in sorted(by_day, reverse=True):
        total += by_day[day]
        if total > MAX_REQUESTS:
            return max(start, datetime.fromtimestamp((day + 1) * DAY, UTC))
    return start
