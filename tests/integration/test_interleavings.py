"""Two sessions in a forced order: the second one meets the locks of the first."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import advisory_locks, lease_queries, reap_queries, release_queries
from botfarm.db.leasing.lease_queries import Renewal
from botfarm.db.leasing.pool_grant_queries import grant_from_pool, hand_after
from botfarm.db.leasing.release_queries import Release
from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import EndedBy, Lease, LeaseRequest, LeaseTerms, Verdict
from botfarm.errors import IdempotencyKeyReusedError, LeaseLapsedError, PoolExhaustedError
from support.farm import MANAGER, OTHER_RUNNER, RUNNER, Farm


@asynccontextmanager
async def rolled_back(farm: Farm) -> AsyncIterator[AsyncSession]:
    """A transaction that ends with ROLLBACK."""
    async with farm.database.transaction() as session:
        yield session
        await session.rollback()


async def blocked(farm: Farm, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Starts the work. Returns when PostgreSQL says that it waits for a lock."""
    waiting = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    task = asyncio.create_task(work)
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval(waiting):
            assert not task.done(), "it was to wait for a lock, and did not"
            await asyncio.sleep(0.005)
    return task


async def until_expired(farm: Farm, lease: Lease) -> None:
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval("SELECT clock_timestamp() > $1", lease.expires_at):
            await asyncio.sleep(0.02)


async def ends_at(farm: Farm, lease: Lease) -> datetime:
    moment: datetime = await farm.sql.fetchval("SELECT expires_at FROM leases WHERE id = $1", lease.id)
    assert await farm.sql.fetchval("SELECT expires_at FROM users WHERE lease_id = $1", lease.id) == moment
    return moment


async def release(session: AsyncSession, lease: Lease) -> Lease | None:
    wanted = Release(lease.id, RUNNER.name, Verdict())
    released, _ = await release_queries.release(session, [wanted])
    return released.get(lease.id)


async def renew(session: AsyncSession, lease: Lease) -> Lease | None:
    return (await lease_queries.renew(session, [Renewal(lease.id, RUNNER, 60)])).get(lease.id)


class TestCutShortAgainstReplay:
    """The caller of an acquire disconnected, and retries with its key before the server has noticed."""

    async def test_a_replay_before_the_cut_keeps_the_lease_whole(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        new = await farm.acquire(pool, idempotency_key="job 7")
        replayed = await farm.acquire(pool, idempotency_key="job 7")
        async with farm.database.autocommit() as session:
            await lease_queries.cut_short(session, new, seconds=1)
        assert await ends_at(farm, new) == replayed.expires_at == new.expires_at

    async def test_a_replay_in_flight_is_awaited_and_keeps_the_lease_whole(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        new = await farm.acquire(pool, idempotency_key="job 7")
        async with farm.database.transaction() as replaying:
            assert await lease_queries.restore(replaying, new.id, principal=RUNNER.name)
            cutting = await blocked(farm, self.cut_short(farm, new))
        await cutting
        assert await ends_at(farm, new) == new.expires_at

    async def test_a_replay_after_the_cut_restores_the_lease(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        new = await farm.acquire(pool, idempotency_key="job 7")
        await self.cut_short(farm, new)
        assert await ends_at(farm, new) < new.expires_at
        assert (await farm.acquire(pool, idempotency_key="job 7")).expires_at == new.expires_at

    async def cut_short(self, farm: Farm, new: Lease) -> None:
        async with farm.database.autocommit() as session:
            await lease_queries.cut_short(session, new, seconds=1)


class TestRenewAgainstReap:
    async def test_a_renew_in_flight_is_skipped_by_the_reaper_and_wins(self, farm: Farm) -> None:
        lease = await farm.acquire(await farm.pool(1), ttl_seconds=3)
        async with farm.database.transaction() as renewing:
            assert await renew(renewing, lease)
            await until_expired(farm, lease)
            assert await farm.services.maintenance.reap() == 0
        assert await farm.services.maintenance.reap() == 0
        assert (await farm.services.leases.get(RUNNER, lease.id)).is_live

    @pytest.mark.parametrize("verb", [renew, release])
    async def test_a_request_that_waited_for_the_reaper_finds_the_lease_lapsed(
        self, farm: Farm, verb: Any
    ) -> None:
        lease = await farm.acquire(await farm.pool(1))
        await farm.expire(lease.id)
        method = {
            renew: lambda: farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=60),
            release: lambda: farm.services.leases.release(RUNNER, lease.id),
        }[verb]
        async with farm.database.transaction() as reaping:
            assert len(await reap_queries.reap(reaping, batch=10, latest=None)) == 1
            waiting = await blocked(farm, method())
        with pytest.raises(LeaseLapsedError):
            await waiting
        assert (await farm.services.leases.get(RUNNER, lease.id)).ended_by is EndedBy.EXPIRED

    @pytest.mark.parametrize("verb", [renew, release])
    async def test_a_reaper_that_fails_does_not_revive_the_lease(self, farm: Farm, verb: Any) -> None:
        lease = await farm.acquire(await farm.pool(1))
        await farm.expire(lease.id)
        async with farm.database.autocommit() as session:
            async with rolled_back(farm) as reaping:
                assert len(await reap_queries.reap(reaping, batch=10, latest=None)) == 1
                waiting = await blocked(farm, verb(session, lease))
            assert await waiting is None


class TestReleaseAgainstReap:
    async def test_a_release_in_flight_is_skipped_by_the_reaper_and_wins(self, farm: Farm) -> None:
        lease = await farm.acquire(await farm.pool(1), ttl_seconds=3)
        async with farm.database.transaction() as releasing:
            assert await release(releasing, lease)
            await until_expired(farm, lease)
            assert await farm.services.maintenance.reap() == 0
        assert await farm.services.maintenance.reap() == 0
        assert (await farm.services.leases.get(RUNNER, lease.id)).ended_by is EndedBy.RELEASED

    async def test_a_reaper_that_comes_late_leaves_the_next_holder_alone(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        old = await farm.acquire(pool)
        await farm.expire(old.id, rested=True)
        async with farm.database.transaction() as acquiring:
            new = await _acquire(acquiring, pool)
            assert new is not None
            reaping = await blocked(farm, farm.services.maintenance.reap())
        assert await reaping == 1
        user = await farm.services.users.get(EVERYTHING, new.users[0].id)
        assert (user.lease_id, user.locktime) == (new.id, new.acquired_at)


BLOCKERS = {
    "the lease's row": "SELECT 1 FROM leases WHERE id = :id FOR UPDATE",
    "the lease's row, changed": "UPDATE leases SET owner = 'somebody' WHERE id = :id",
    "the user's row": "SELECT 1 FROM users WHERE lease_id = :id FOR UPDATE",
    "the user's row, changed": "UPDATE users SET labels = '{}' WHERE lease_id = :id",
}


@pytest.mark.parametrize("end", ["commits", "rolls back"])
@pytest.mark.parametrize("blocker", BLOCKERS)
@pytest.mark.parametrize("verb", [renew, release])
async def test_a_request_that_waits_for_a_lock_past_the_expiry_is_too_late(
    farm: Farm, verb: Any, blocker: str, end: str
) -> None:
    lease = await farm.acquire(await farm.pool(1), ttl_seconds=1)
    holding = farm.database.transaction() if end == "commits" else rolled_back(farm)
    async with farm.database.autocommit() as session:
        async with holding as blocking:
            await blocking.execute(text(BLOCKERS[blocker]), {"id": lease.id})
            waiting = await blocked(farm, verb(session, lease))
            await until_expired(farm, lease)
        assert await waiting is None
    assert (await farm.services.leases.get(RUNNER, lease.id)).ended_by is EndedBy.EXPIRED


class TestAcquire:
    async def test_a_user_that_another_acquire_has_locked_is_skipped(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        async with farm.database.transaction() as first:
            taken = await _acquire(first, pool)
            lease = await farm.acquire(pool)
        assert taken is not None
        assert taken.users[0].id != lease.users[0].id

    async def test_an_acquire_that_rolls_back_gives_its_user_to_the_next(self, farm: Farm) -> None:
        pool = await farm.pool(1)
        async with rolled_back(farm) as first:
            assert await _acquire(first, pool)
            with pytest.raises(PoolExhaustedError):
                await farm.acquire(pool)
        assert await farm.acquire(pool)

    async def test_two_batches_that_deny_each_other_the_last_users_are_granted_one_after_the_other(
        self, farm: Farm
    ) -> None:
        """The batch under test sees four free users, gets two, and must retry under the lock of the pool."""
        pool = await farm.pool(4)
        two_of_them = "SELECT id FROM users ORDER BY id LIMIT 2 FOR UPDATE"
        async with farm.database.transaction() as turn:
            await advisory_locks.lock_pool(turn, pool)
            async with rolled_back(farm) as other_batch:
                await other_batch.execute(text(two_of_them))
                batch = await blocked(farm, farm.acquire(pool, count=3))
        assert len((await batch).users) == 3

    async def test_a_retry_that_waited_for_the_lock_of_the_pool_is_a_replay(self, farm: Farm) -> None:
        """Both requests under one key find too few users; the second then finds the lease of the first."""
        pool = await farm.pool(3)
        async with farm.database.transaction() as turn:
            await advisory_locks.lock_pool(turn, pool)
            async with rolled_back(farm) as other_batch:
                await other_batch.execute(text("SELECT id FROM users ORDER BY id LIMIT 2 FOR UPDATE"))
                both = [
                    asyncio.create_task(farm.acquire(pool, count=2, idempotency_key="k")) for _ in range(2)
                ]
                async with asyncio.timeout(1):
                    while await farm.sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < len(
                        both
                    ):
                        await asyncio.sleep(0.005)
        leases = await asyncio.gather(*both)
        assert leases[0].id == leases[1].id

    async def test_of_two_batches_for_the_last_users_one_wins(self, farm: Farm) -> None:
        pool = await farm.pool(4)
        for _ in range(25):
            outcomes = await asyncio.gather(
                farm.acquire(pool, count=3), farm.acquire(pool, OTHER_RUNNER, count=3), return_exceptions=True
            )
            leases = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
            assert len(leases) == 1, outcomes
            assert any(isinstance(outcome, PoolExhaustedError) for outcome in outcomes)
            await farm.services.leases.force_release(MANAGER, leases[0].id, reason="next round")
            await farm.sql.execute("UPDATE users SET available_at = clock_timestamp()")

    async def test_two_retries_of_one_key_at_once_take_one_user(self, farm: Farm) -> None:
        pool = await farm.pool(5)
        leases = await asyncio.gather(*(farm.acquire(pool, idempotency_key="k") for _ in range(10)))
        assert len({lease.id for lease in leases}) == 1
        assert await farm.sql.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == 1

    async def test_a_retry_waits_until_the_first_request_under_its_key_is_committed(self, farm: Farm) -> None:
        pool = await farm.pool(2)
        async with farm.database.transaction() as first:
            lease = await _acquire(first, pool, idempotency_key="k")
            assert lease is not None
            retry = await blocked(farm, farm.acquire(pool, idempotency_key="k"))
        with pytest.raises(
            IdempotencyKeyReusedError
        ):  # the first one carries no fingerprint of the same request
            await retry
        assert await farm.sql.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == 1


async def _acquire(session: AsyncSession, pool: Any, *, idempotency_key: str | None = None) -> Lease | None:
    fingerprint = b"another request" if idempotency_key else None
    terms = LeaseTerms(ttl_seconds=60, idempotency_key=idempotency_key, fingerprint=fingerprint)
    (lease,) = await grant_from_pool(
        session,
        [LeaseRequest(RUNNER, pool, terms=terms)],
        tickets=None,
        hand=hand_after(uuid4()),
        replica=uuid4(),
        latest=None,
    )
    return lease
