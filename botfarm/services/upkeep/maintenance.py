"""Cleans up. Nothing waits for it: a user whose lease has expired can be leased whether it was reaped or not."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.db.access import audit_queries, run_token_queries
from botfarm.db.leasing import advisory_locks, reap_queries, refusal_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import login_key_queries, pool_queries
from botfarm.db.upkeep import key_queries, maintenance_queries
from botfarm.db.waiting import ticket_queries
from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import EndedBy, EndedLease
from botfarm.domain.pools import Pool, PoolUsage
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger
from botfarm.services.shared.database_clock import TOLERANCE, DatabaseClock, Reading, monotonic
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.quarantining import judge

logger = get_logger(__name__)

# Seconds between two readings of the clock by a process that does not reap.
CLOCK_INTERVAL = 3.0
REAP_BATCH = 500
PRUNE_BATCH = 5_000


class Prune(Protocol):
    async def __call__(self, session: AsyncSession, /, *, days: int, batch: int) -> int:
        """Deletes up to `batch` rows older than `days`. Returns their number."""


class Maintenance:
    def __init__(
        self, database: Database, notifier: Notifier, clock: DatabaseClock, *, history_days: int
    ) -> None:
        self._database = database
        self._notifier = notifier
        self._clock = clock
        self._history_days = history_days

    async def connections(self) -> tuple[int, int]:
        """How many the database gives to all clients together, and how many others have now."""
        async with self._database.autocommit() as session:
            return await maintenance_queries.connections(session)

    async def reap(self) -> int:
        """Closes every lease that has expired and clears its users' locks. Returns the number of leases.

        Any number of replicas may do so at once, because each skips rows that another has locked.
        """
        await self.follow_clock()
        reaped = await self._reap(self._clock.latest())
        metrics.reaper_last_success.set_to_current_time()
        return reaped

    async def watch_clock(self) -> None:
        """Follows the clock every few seconds, until cancelled. For a process that does not reap."""
        while True:
            try:
                await self.follow_clock()
            except DatabaseUnavailableError as error:
                logger.debug("clock", reason=error.reason)
            except Exception:  # without this watch, the clock is no longer believed, and no lease expires
                logger.exception("clock")
            await asyncio.sleep(CLOCK_INTERVAL)

    async def follow_clock(self) -> None:
        """Reads the database's clock. After a step forward, the leases that the step ended are reaped first.

        Until then, processes that read the clock before the step do not grant the users of these leases.
        """
        async with self._database.autocommit() as session:
            asked = monotonic()
            at = await maintenance_queries.clock(session)
            reading = Reading(at, asked, monotonic())
        step = self._clock.step_to(reading)
        if step > 0:
            await self._reap(None, step=step)
            async with self._database.autocommit() as session:
                if await maintenance_queries.reaper_lag(session) > TOLERANCE:
                    return  # some of these leases were locked; the next reading tries again
        self._clock.accept(reading)
        if step:
            logger.warning("the database's clock was stepped", seconds=round(step, 3))
            metrics.count_clock_step(step)

    async def _reap(self, latest: datetime | None, *, step: float = 0) -> int:
        reaped = 0
        while True:
            async with self._database.autocommit() as session:
                ended = await reap_queries.reap(session, batch=REAP_BATCH, latest=latest, step=step)
            reaped += self._count_reaped(ended)
            if len(ended) < REAP_BATCH:
                break
        async with self._database.autocommit() as session:
            pools = await reap_queries.pools_to_judge(session, latest=latest)
        for pool in pools:
            reaped += await self._reap_and_judge(pool, latest, step=step)
        return reaped

    async def _reap_and_judge(self, pool: Pool, latest: datetime | None, *, step: float) -> int:
        """Reaps where the end of a lease may lead to a quarantine, under the lock of the pool, as releases do."""
        reaped = 0
        while True:
            async with self._database.transaction() as session:
                await advisory_locks.lock_pool(session, pool)
                ended = await reap_queries.reap(
                    session, batch=REAP_BATCH, latest=latest, step=step, judged_of=pool
                )
                failed = {user_id: (lease.id, None) for lease in ended for user_id in lease.user_ids}
                judgement = await judge(session, pool, ended[0].project_name, failed) if ended else None
            if judgement:
                judgement.count()
            reaped += self._count_reaped(ended)
            if len(ended) < REAP_BATCH:
                return reaped

    def _count_reaped(self, ended: Sequence[EndedLease]) -> int:
        for lease in ended:
            metrics.count_ended_lease(lease, EndedBy.EXPIRED, None)
            self._notifier.freed(lease.pool.project_id)
        return len(ended)

    async def prune_audit(self, stop: asyncio.Event) -> int:
        """Deletes audit entries older than `history_days`, until `stop` is set. Returns their number."""
        return await self._prune(audit_queries.prune_deeds, stop)

    async def prune_history(self, stop: asyncio.Event) -> int:
        """Deletes leases that ended over `history_days` ago, until `stop` is set. Returns their number."""
        return await self._prune(maintenance_queries.prune_leases, stop)

    async def prune_run_tokens(self, stop: asyncio.Event) -> int:
        """Deletes expired tokens of CI runs, and marks of exchanged identity tokens, until `stop` is set.

        Returns their number.
        """
        pruned = 0
        while not stop.is_set():
            async with self._database.transaction() as session:
                batch = await run_token_queries.prune_run_tokens(session, batch=PRUNE_BATCH)
            pruned += batch
            if batch == 0:
                break
        return pruned

    async def prune_refusals(self, stop: asyncio.Event) -> int:
        """Deletes counts of refused requests older than `history_days`, until `stop` is set. Returns their number."""
        return await self._prune(refusal_queries.prune_refusals, stop)

    async def _prune(self, prune: Prune, stop: asyncio.Event) -> int:
        """Deletes batch by batch, each in a transaction of its own."""
        pruned = 0
        while not stop.is_set():
            async with self._database.transaction() as session:
                batch = await prune(session, days=self._history_days, batch=PRUNE_BATCH)
            pruned += batch
            if batch == 0:
                break
        return pruned

    async def prune_tickets(self) -> int:
        """Deletes tickets without a waiting request, and replicas that are gone.

        Returns the number of tickets.
        """
        async with self._database.autocommit() as session:
            await ticket_queries.prune_replicas(session)
            return await ticket_queries.prune_tickets(session)

    async def fill_login_keys(self, stop: asyncio.Event) -> tuple[int, list[UUID]]:
        """Stores missing normal forms of logins, which replicas of the previous version wrote. Ends early at `stop`.

        Returns the number of users that got one, and the users that cannot have one because another user is
        the same account.
        """
        filled, refused = 0, []
        async with self._database.autocommit() as session:
            users = await login_key_queries.users_without_key(session)
        for user_id, login in users:
            if stop.is_set():
                break
            async with self._database.autocommit() as session:
                if await login_key_queries.fill_login_key(session, user_id, login):
                    filled += 1
                else:
                    refused.append(user_id)
        return filled, refused

    async def may_see_all_sessions(self) -> bool:
        async with self._database.autocommit() as session:
            return await maintenance_queries.may_see_all_sessions(session)

    async def may_change_tables(self) -> bool:
        async with self._database.autocommit() as session:
            return await maintenance_queries.may_change_tables(session)

    async def refresh_gauges(self) -> None:
        """Sets the gauges. Every worker sets the same values, so dashboards take the `max` over them.

        A worker that cannot count drops its values, because `max` would prefer its old numbers to another's
        new ones.
        """
        try:
            await self._set_gauges()
        except Exception:
            _drop_gauges()
            raise
        metrics.gauges_last_success.set_to_current_time()

    async def _set_gauges(self) -> None:
        async with self._database.autocommit() as session:
            usages = await pool_queries.count_pools(session, EVERYTHING)
            lag = await maintenance_queries.reaper_lag(session)
            dead = await maintenance_queries.dead_tuples(session)
            snapshot = await maintenance_queries.oldest_snapshot(session)
            values = await key_queries.encrypted_values(session)
        _drop_gauges()  # a pool that is gone must not keep its last values
        _set_pool_gauges(usages)
        metrics.reaper_lag_seconds.set(lag)
        metrics.db_oldest_snapshot_seconds.set(snapshot)
        for key_id, count in values.items():
            metrics.encrypted_values.labels(key_id).set(count)
        for table, tuples in dead.items():
            metrics.db_dead_tuples.labels(table).set(tuples)


def _drop_gauges() -> None:
    for gauge in (
        metrics.users,
        metrics.users_health,
        metrics.oldest_dirty_seconds,
        metrics.waiters,
        metrics.oldest_wait_seconds,
        metrics.encrypted_values,
        metrics.db_dead_tuples,
    ):
        gauge.clear()
    # Gauges without labels cannot be removed. They become 0, which `max` over several workers ignores.
    for gauge in (metrics.reaper_lag_seconds, metrics.db_oldest_snapshot_seconds):
        gauge.set(0)


def _set_pool_gauges(usages: list[PoolUsage]) -> None:
    for usage in usages:
        labels = metrics.pool_labels(usage.project_name, usage.pool.env, usage.pool.domain)
        metrics.waiters.labels(*labels).set(usage.counts.waiting)
        metrics.oldest_wait_seconds.labels(*labels).set(usage.counts.oldest_wait or 0)
        metrics.oldest_dirty_seconds.labels(*labels).set(usage.oldest_dirty or 0)
        for health, count in usage.health.items():
            metrics.users_health.labels(*labels, health).set(count)
        for state in metrics.USER_STATES:
            metrics.users.labels(*labels, state).set(getattr(usage.counts, state))
