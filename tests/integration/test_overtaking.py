"""No request overtakes one that a replica received noticeably earlier, however slow a replica is."""

import asyncio
from typing import Any

import pytest

from botfarm.db.leasing import advisory_locks
from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Pool
from botfarm.services.waiting import pool_queue
from support.farm import Farm
from support.tickets import forge_replica, forge_ticket
from support.waiting import Replica, Replicas, until


@pytest.fixture
def replicas(farm: Farm, database_url: str) -> Replicas:
    return Replicas(farm, database_url, notify=True)


async def until_held(replica: Replica, pool: Pool) -> None:
    """Until it holds a ticket back that could be granted."""
    await until(lambda: bool(replica.room._queues[pool, Purpose.TEST]._held_since))


class TestTwoReplicasThatGrant:
    async def test_a_later_ticket_waits_for_the_grant_at_a_slow_replica(
        self, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "LONGEST_HOLD", 600.0)
        pool = await replicas.occupied_pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as slow, replicas.replica() as quick:
            slow.grants.before_grant = may_go.wait
            first = slow.wait(pool, owner="first", ago=1)
            await replicas.until_waiting(1)
            second = quick.wait(pool, owner="second")
            await replicas.until_waiting(2)
            await replicas.free(quick, pool, 2)
            await until(lambda: bool(slow.grants.tries))
            await until_held(quick, pool)
            assert quick.grants.tries == []
            may_go.set()
            await first
            await second
        assert replicas.order == ["first", "second"]

    async def test_it_does_not_wait_for_ever(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as stuck, replicas.replica() as quick:
            stuck.grants.before_grant = may_go.wait
            first = stuck.wait(pool, owner="first", ago=1)
            await replicas.until_waiting(1)
            second = quick.wait(pool, owner="second")
            await replicas.until_waiting(2)
            await replicas.free(quick, pool, 2)
            await second
            may_go.set()
            await first
        assert replicas.order == ["second", "first"]

    async def test_after_the_hold_a_grant_that_gets_no_user_is_not_tried_again_and_again(
        self, farm: Farm, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "LONGEST_HOLD", 0.0)
        for pause in ("LONGEST_PAUSE", "POLL_INTERVAL"):
            monkeypatch.setattr(pool_queue, pause, 600.0)
        pool = await replicas.occupied_pool(2)
        async with replicas.replica() as one:
            await forge_ticket(farm, pool, await forge_replica(farm, seen_ago=-60))
            waiting = one.wait(pool)
            await one.until_read(pool)
            await replicas.free(one, pool, 2, notify=False)
            async with farm.database.transaction() as session:
                await (await session.connection()).exec_driver_sql("SELECT FROM users FOR UPDATE")
                one.notifier.freed(pool.project_id)
                await until(lambda: len(one.grants.tries) > 1)
                reading, clock = one.room._queues[pool, Purpose.TEST]._loop, asyncio.get_running_loop()
                await until(lambda: clock.time() + 1 < reading._due_at < float("inf"))
            one.notifier.freed(pool.project_id)
            await waiting

    async def test_tickets_that_arrived_together_do_not_wait_for_each_other(
        self, farm: Farm, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "LONGEST_HOLD", 600.0)
        pool = await replicas.occupied_pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as slow, replicas.replica() as quick:
            slow.grants.before_grant = may_go.wait
            first = slow.wait(pool, owner="first", ago=1)
            await replicas.until_waiting(1)
            second = quick.wait(pool, owner="second")
            await replicas.until_waiting(2)
            await farm.sql.execute(
                "UPDATE tickets SET rank = (SELECT min(rank) FROM tickets) + interval '10 ms' WHERE owner = 'second'"
            )
            await replicas.free(quick, pool, 2)
            await second
            may_go.set()
            await first


class TestOneReplica:
    async def test_a_grant_that_waited_for_its_quota_takes_no_user_of_an_earlier_request(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(1, plan="paid")
        free = await farm.user(pool, plan="free")
        await replicas.occupy(pool)
        quota: dict[str, Any] = {"principal": "nightly", "max_leases": 5}
        async with replicas.replica() as one:
            paid = one.wait(pool, owner="paid", labels={"plan": "paid"}, ago=1, **quota)
            anyone = one.wait(pool, owner="any", **quota)
            await replicas.until_waiting(2)
            await one.until_read(pool)
            async with farm.database.transaction() as session:
                await advisory_locks.lock_principal(session, "nightly")
                await replicas.free_users(one, free)
                await until(lambda: [request.terms.owner for request in one.grants.tries] == ["any"])
                await farm.until_blocked()
                await replicas.occupy(pool)
                await replicas.free(one, pool, labels='{"plan": "paid"}')
                await farm.until_blocked(2)
            await paid
            assert replicas.order == ["paid"]
            await replicas.free_users(one, free)
            await anyone

    async def test_a_request_joins_the_queue_behind_one_whose_ticket_is_being_inserted(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            async with farm.database.transaction() as session:
                await (await session.connection()).exec_driver_sql("LOCK TABLE tickets IN SHARE MODE")
                first = asyncio.create_task(farm.grant(pool, wait_seconds=30))
                await farm.until_blocked()
                await replicas.free(one, pool)
                second = asyncio.create_task(farm.grant(pool, wait_seconds=30))
                joining = farm.services.waiting_room._waiters._joining
                await until(lambda: sum(map(len, joining.values())) == 2)
            lease = (await asyncio.wait_for(first, 60)).lease
            assert not second.done()
            await farm.release(lease)
            await asyncio.wait_for(second, 60)
