"""A waiter and what happens to it at the same moment, in a forced order."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from botfarm.db.postgres import listener as listening
from botfarm.errors import (
    CallerGoneError,
    IdempotencyKeyReusedError,
    PoolExhaustedError,
    WaitSupersededError,
)
from botfarm.services.waiting import waiting_room
from support.farm import Farm
from support.proxy import proxy_to
from support.waiting import Replicas, until

KEY = {"idempotency_key": "k", "fingerprint": b"f"}


@pytest.fixture
def replicas(farm: Farm, database_url: str) -> Replicas:
    return Replicas(farm, database_url, notify=True)


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless somebody wakes it."""
    monkeypatch.setattr(waiting_room, "INTERVAL", 600.0)
    monkeypatch.setattr(waiting_room, "INTERVAL_DEAF", 600.0)


@pytest.mark.usefixtures("never_looks")
class TestRelease:
    async def test_before_the_ticket_is_there_it_is_seen_by_the_first_try(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            async with farm.database.transaction() as session:
                await (await session.connection()).exec_driver_sql("LOCK TABLE tickets IN SHARE MODE")
                waiting = one.wait(pool)
                await farm.until_blocked()
                await replicas.free(other, pool)
                await other.notifier.close()  # it has asked, and found nobody
            await waiting

    async def test_after_the_first_try_it_wakes(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await replicas.until_parked()
            await replicas.free(other, pool)
            await waiting

    async def test_where_nobody_waits_nothing_is_said(self, farm: Farm, replicas: Replicas) -> None:
        pool, elsewhere = await farm.pool(1), await farm.pool(2)
        await replicas.occupy(pool)
        await replicas.occupy(elsewhere)
        woken: list[Any] = []
        async with replicas.replica() as one:
            one.wait(elsewhere, count=2)  # one is not enough: it waits on
            await replicas.until_parked()
            assert one.listener
            await one.listener.listen(pool.project_id)
            one.listener.call(woken.append)
            await replicas.free(one, pool)
            await replicas.free(one, elsewhere)
            await until(lambda: bool(woken))
        assert pool.project_id not in woken


class TestTimeOut:
    async def test_a_grant_under_way_is_awaited_and_wins(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        may_commit = asyncio.Event()
        async with replicas.replica() as one:
            one.before_commit = may_commit.wait
            waiting = one.wait(pool, wait_seconds=0.3)
            await until(lambda: bool(one.calls))
            await asyncio.sleep(0.5)  # the wait is over by now
            assert not waiting.task.done()
            may_commit.set()
            assert len((await waiting).ids) == 1

    async def test_a_grant_that_comes_too_late_finds_no_ticket(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        may_go = asyncio.Event()
        async with replicas.replica() as one:
            one.before_grant = may_go.wait
            waiting = one.wait(pool, wait_seconds=0.3)
            await until(lambda: bool(one.calls))
            await asyncio.sleep(0.5)
            may_go.set()
            with pytest.raises(PoolExhaustedError):
                await waiting
            assert replicas.order == []
            assert await replicas.tickets() == []

    async def test_with_a_key_the_place_is_kept_blocks_nobody_and_is_not_granted(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            with pytest.raises(PoolExhaustedError):
                await one.wait(pool, wait_seconds=0.05, owner="first", **KEY)
            (kept,) = await replicas.tickets()
            assert kept["replica"] is None
            left = await farm.sql.fetchval(
                "SELECT extract(epoch FROM deadline - clock_timestamp()) FROM tickets"
            )
            assert 8 < left <= 10
            second = other.wait(pool, owner="second")
            await replicas.until_parked()
            await replicas.free(one, pool)
            await second
            assert replicas.order == ["second"]
            again = one.wait(pool, owner="first again", **KEY)
            await replicas.until_parked()
            (ticket,) = await replicas.tickets()
            assert (ticket["id"], ticket["rank"]) == (kept["id"], kept["rank"])
            await replicas.free(one, pool)
            await again

    async def test_a_place_is_not_kept_for_ever(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one:
            with pytest.raises(PoolExhaustedError):
                await one.wait(pool, wait_seconds=0.05, **KEY)
            (kept,) = await replicas.tickets()
            await farm.sql.execute("UPDATE tickets SET deadline = clock_timestamp()")
            one.wait(pool, **{**KEY, "fingerprint": b"another"})
            await replicas.until_parked()
            (ticket,) = await replicas.tickets()
            assert ticket["rank"] > kept["rank"]


class TestHangUp:
    async def test_the_ticket_goes_and_the_next_one_is_served(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            first = one.wait(pool, owner="first")
            await replicas.until_parked()
            second = other.wait(pool, owner="second")
            await replicas.until_parked(2)
            first.hang_up()
            with pytest.raises(CallerGoneError):
                await first
            assert len(await replicas.tickets()) == 1
            await replicas.free(one, pool)
            await second

    async def test_with_a_key_the_place_is_kept(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one:
            waiting = one.wait(pool, **KEY)
            await replicas.until_parked()
            waiting.hang_up()
            with pytest.raises(CallerGoneError):
                await waiting
            assert [ticket["replica"] for ticket in await replicas.tickets()] == [None]

    async def test_during_a_grant_it_gets_its_users_for_the_caller_to_give_back(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        may_commit = asyncio.Event()
        async with replicas.replica() as one:
            one.before_commit = may_commit.wait
            waiting = one.wait(pool)
            await until(lambda: bool(one.calls))
            waiting.hang_up()
            may_commit.set()
            assert len((await waiting).ids) == 1


class TestRePost:
    async def test_on_another_replica_it_takes_the_place_over(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            former = one.wait(pool, wait_seconds=1, owner="former", **KEY)
            await replicas.until_parked()
            (before,) = await replicas.tickets()
            waiting = other.wait(pool, owner="latter", **KEY)
            async with asyncio.timeout(60):
                while (await replicas.tickets())[0]["replica"] != other.id:
                    await asyncio.sleep(0.005)
            (after,) = await replicas.tickets()
            assert (after["id"], after["rank"]) == (before["id"], before["rank"])
            with pytest.raises(WaitSupersededError):
                await former
            await replicas.free(one, pool)
            await waiting
            assert replicas.order == ["latter"]

    async def test_on_the_same_replica_the_former_learns_at_once(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one:
            former = one.wait(pool, owner="former", **KEY)
            await replicas.until_parked()
            waiting = one.wait(pool, owner="latter", **KEY)
            with pytest.raises(WaitSupersededError):
                await former
            await replicas.free(one, pool)
            await waiting
            assert replicas.order == ["latter"]

    async def test_of_another_request_it_is_refused(self, farm: Farm, replicas: Replicas) -> None:
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one:
            waiting = one.wait(pool, **KEY)
            await replicas.until_parked()
            with pytest.raises(IdempotencyKeyReusedError):
                await one.wait(pool, **{**KEY, "fingerprint": b"another"})
            await replicas.free(one, pool)
            await waiting

    async def test_while_the_former_is_granted_it_gets_the_same_users(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(2)
        may_commit = asyncio.Event()
        async with replicas.replica() as one, replicas.replica() as other:
            one.before_commit = may_commit.wait
            former = one.wait(pool, **KEY)
            await until(lambda: bool(one.calls))
            await until_in_transaction(farm)
            latter = other.wait(pool, **KEY)
            await farm.until_blocked()  # by the ticket that is being deleted
            may_commit.set()
            assert (await former).ids == (await latter).ids
            assert (await latter).replayed
            assert await replicas.tickets() == []

    async def test_a_grant_that_finds_the_place_taken_over_takes_no_other_users(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as one, replicas.replica() as other:
            one.before_grant = may_go.wait
            former = one.wait(pool, wait_seconds=2, owner="former", **KEY)
            await until(lambda: bool(one.calls))
            latter = other.wait(pool, owner="latter", **KEY)
            users = await latter
            may_go.set()
            assert (await former).ids == users.ids
        assert replicas.order == ["latter"]


async def until_in_transaction(farm: Farm) -> None:
    """Until a replica has done its statements and has not committed."""
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval(
            """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'replica' AND state = 'idle in transaction'"""
        ):
            await asyncio.sleep(0.005)


class TestListening:
    async def test_a_word_that_is_lost_costs_a_look(
        self, farm: Farm, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting_room, "INTERVAL", 0.3)
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await replicas.until_parked()
            await replicas.free(one, pool, say_so=False)
            await waiting

    async def test_a_cut_connection_comes_back_and_wakes_all(
        self, farm: Farm, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting_room, "INTERVAL_DEAF", 600.0)
        pool = await farm.pool(2)
        await replicas.occupy(pool)
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            first, second = one.wait(pool), one.wait(pool)
            await replicas.until_parked(2)
            await proxy.cut()
            await until(lambda: not one.listener.is_connected)  # type: ignore[union-attr]
            await replicas.free(one, pool)
            await one.notifier.close()
            await proxy.mend()
            await until(lambda: first.task.done() or second.task.done())
            await until(lambda: one.listener.is_connected)  # type: ignore[union-attr]
            await replicas.free(one, pool)
            await first
            await second

    async def test_without_the_connection_they_look_more_often(
        self, farm: Farm, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting_room, "INTERVAL", 600.0)
        pool = await farm.pool(1)
        await replicas.occupy(pool)
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            waiting = one.wait(pool)
            await replicas.until_parked()
            await proxy.cut()
            await until(lambda: not one.listener.is_connected)  # type: ignore[union-attr]
            await replicas.free(one, pool)
            await waiting

    async def test_a_server_that_has_gone_silent_is_noticed(
        self, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening, "PING_INTERVAL", 0.05)
        monkeypatch.setattr(listening, "PATIENCE", 0.5)
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            proxy.silence()
            await until(lambda: not one.listener.is_connected)  # type: ignore[union-attr]
            proxy.speak()
            await until(lambda: one.listener.is_connected)  # type: ignore[union-attr]

    async def test_a_server_that_has_said_its_last_word_and_not_hung_up_is_left(
        self, farm: Farm, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening, "PING_INTERVAL", 0.05)
        wakes = list[UUID | None]()
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            proxy.hide_ends()
            one.listener.call(wakes.append)
            await farm.sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'replica-listen'"
            )
            await until(lambda: len(wakes) >= 2)  # it is gone, and there is another
            assert one.listener.is_connected
