"""A waiting request, and an event at the same moment: the order of the two is forced."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from botfarm.db.postgres import listener as listening
from botfarm.domain.leases import Grant
from botfarm.domain.pools import PoolCounts
from botfarm.errors import (
    CallerGoneError,
    IdempotencyKeyReusedError,
    PoolExhaustedError,
    ShuttingDownError,
    WaitSupersededError,
)
from botfarm.services.waiting import pool_queue
from support.farm import Farm
from support.proxy import proxy_to
from support.waiting import Replica, Replicas, Waiting, until

KEY = {"idempotency_key": "k", "fingerprint": b"f"}


@pytest.fixture
def replicas(farm: Farm, database_url: str) -> Replicas:
    return Replicas(farm, database_url, notify=True)


@pytest.fixture
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue is read only when it is woken."""
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL", 600.0)
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL_WITHOUT_NOTIFY", 600.0)


@pytest.mark.usefixtures("never_polls")
class TestRelease:
    async def test_a_release_before_the_ticket_is_committed_is_seen_by_the_first_reading(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            async with farm.database.transaction() as session:
                await (await session.connection()).exec_driver_sql("LOCK TABLE tickets IN SHARE MODE")
                waiting = one.wait(pool)
                await farm.until_blocked()
                await replicas.free(other, pool)
                await other.notifier.close()  # its statement has found no ticket
            await waiting

    async def test_a_release_after_the_first_reading_wakes_the_request(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await replicas.until_waiting()
            await replicas.free(other, pool)
            await waiting

    async def test_a_release_in_a_project_where_no_request_waits_sends_no_notification(
        self, replicas: Replicas
    ) -> None:
        pool, elsewhere = await replicas.occupied_pool(), await replicas.occupied_pool(2)
        woken: list[Any] = []
        async with replicas.replica() as one:
            one.wait(elsewhere, count=2)  # one user is not enough, so it goes on waiting
            await replicas.until_waiting()
            assert one.listener
            await one.listener.listen(pool.project_id)
            one.listener.call(woken.append)
            await replicas.free(one, pool)
            await replicas.free(one, elsewhere)
            await until(lambda: bool(woken))
        assert pool.project_id not in woken


End = Callable[[Replica, Waiting], Awaitable[None]]


async def time_out(one: Replica, _: Waiting) -> None:
    await one.until_leaving()


async def disconnect(one: Replica, waiting: Waiting) -> None:
    waiting.hang_up()
    await one.until_leaving()


async def shut_down(one: Replica, _: Waiting) -> None:
    one.room.stop()


ERRORS = {time_out: PoolExhaustedError, disconnect: CallerGoneError, shut_down: ShuttingDownError}
each_end = pytest.mark.parametrize("end", ERRORS)


def wait_seconds(end: End) -> float:
    return 1 if end is time_out else 60


class TestEndOfAWait:
    @each_end
    async def test_a_grant_in_flight_wins_over_the_end(
        self, farm: Farm, replicas: Replicas, end: End
    ) -> None:
        pool = await farm.pool(1)
        async with replicas.replica() as one:
            async with replicas.held_grants():
                waiting = one.wait(pool, wait_seconds=wait_seconds(end))
                await farm.until_blocked()
                await end(one, waiting)
                assert not waiting.task.done()
            assert len((await waiting).lease.users) == 1

    async def test_a_grant_that_comes_after_the_time_out_finds_no_ticket(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        may_go = asyncio.Event()
        async with replicas.replica() as one:
            one.grants.before_grant = may_go.wait
            waiting = one.wait(pool, wait_seconds=0.3)
            await until(lambda: bool(one.grants.tries))
            await one.until_leaving()
            while await replicas.tickets("deadline > clock_timestamp()"):
                await asyncio.sleep(0.005)
            may_go.set()
            with pytest.raises(PoolExhaustedError):
                await waiting
            assert replicas.order == []
            assert await replicas.tickets() == []

    @each_end
    async def test_with_a_key_the_place_is_kept_holds_up_no_other_and_is_not_granted(
        self, farm: Farm, replicas: Replicas, end: End
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            first = one.wait(pool, wait_seconds=wait_seconds(end), owner="first", **KEY)
            await replicas.until_waiting()
            await end(one, first)
            with pytest.raises(ERRORS[end]):  # type: ignore[index]
                await first
            await one.room.close() if end is shut_down else None
            (kept,) = await replicas.tickets()
            assert kept["replica"] is None
            left = await farm.sql.fetchval(
                "SELECT extract(epoch FROM deadline - clock_timestamp()) FROM tickets"
            )
            assert 8 < left <= 10
            second = other.wait(pool, owner="second")
            await replicas.until_waiting()
            await replicas.free(other, pool)
            await second
            assert replicas.order == ["second"]
            again = other.wait(pool, owner="first again", **KEY)
            await replicas.until_waiting()
            (ticket,) = await replicas.tickets()
            assert (ticket["id"], ticket["rank"]) == (kept["id"], kept["rank"])
            await replicas.free(other, pool)
            await again

    async def test_a_place_is_not_kept_for_ever(self, farm: Farm, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            with pytest.raises(PoolExhaustedError):
                await one.wait(pool, wait_seconds=0.05, **KEY)
            (kept,) = await replicas.tickets()
            await farm.sql.execute("UPDATE tickets SET deadline = clock_timestamp()")
            one.wait(pool, **{**KEY, "fingerprint": b"another"})
            await replicas.until_waiting()
            (ticket,) = await replicas.tickets()
            assert ticket["rank"] > kept["rank"]

    async def test_after_a_disconnect_the_next_request_in_the_queue_is_served(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            first = one.wait(pool, owner="first")
            await replicas.until_waiting()
            second = other.wait(pool, owner="second")
            await replicas.until_waiting(2)
            first.hang_up()
            with pytest.raises(CallerGoneError):
                await first
            assert len(await replicas.tickets()) == 1
            await replicas.free(one, pool)
            await second


class TestRepeatedRequest:
    @pytest.mark.parametrize("elsewhere", [True, False], ids=["at another replica", "at the same replica"])
    async def test_it_takes_over_the_place_of_the_former_request(
        self, replicas: Replicas, elsewhere: bool
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            latter = other if elsewhere else one
            # Elsewhere the former request learns of it at its time-out, here at once.
            former = one.wait(pool, wait_seconds=1 if elsewhere else 60, owner="former", **KEY)
            await replicas.until_waiting()
            (before,) = await replicas.tickets()
            waiting = latter.wait(pool, owner="latter", **KEY)
            async with asyncio.timeout(60):
                while not (after := await replicas.tickets("owner = 'latter'")):
                    await asyncio.sleep(0.005)
            assert [(ticket["id"], ticket["rank"], ticket["replica"]) for ticket in after] == [
                (before["id"], before["rank"], latter.id)
            ]
            with pytest.raises(WaitSupersededError):
                await former
            await replicas.free(one, pool)
            await waiting
            assert replicas.order == ["latter"]

    async def test_another_request_under_the_key_is_refused(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            waiting = one.wait(pool, **KEY)
            await replicas.until_waiting()
            with pytest.raises(IdempotencyKeyReusedError):
                await one.wait(pool, **{**KEY, "fingerprint": b"another"})
            await replicas.free(one, pool)
            await waiting

    async def test_while_the_former_is_granted_it_gets_the_same_lease(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(2)
        async with replicas.replica() as one, replicas.replica() as other:
            async with replicas.held_grants():
                former = one.wait(pool, **KEY)
                await farm.until_blocked()
                latter = other.wait(pool, **KEY)
                await farm.until_blocked(2)  # by the ticket that is being deleted
            assert (await former).lease.id == (await latter).lease.id
            assert (await latter).replayed
            assert await replicas.tickets() == []

    async def test_one_that_does_not_wait_ends_the_wait_of_the_former_request(
        self, replicas: Replicas
    ) -> None:
        """So an interrupted caller gets no user, even if the farm is not told that it has hung up."""
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            former = one.wait(pool, owner="former", **KEY)
            behind = one.wait(pool, owner="behind")
            await replicas.until_waiting(2)
            assert isinstance(await other.ask(pool, **KEY), PoolCounts)
            await replicas.free(other, pool)
            await behind
            former.hang_up()
            with pytest.raises(CallerGoneError):
                await former
            assert replicas.order == ["behind"]

    async def test_one_that_does_not_wait_gets_the_lease_that_the_former_is_just_granted(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            former = one.wait(pool, **KEY)
            await replicas.until_waiting()
            async with replicas.held_grants():
                await replicas.free(one, pool)
                await farm.until_blocked()
                latter = asyncio.create_task(other.ask(pool, **KEY))
                await farm.until_blocked(2)  # by the ticket that is being deleted
            grant = await latter
            assert isinstance(grant, Grant)
            assert grant.lease.id == (await former).lease.id

    async def test_a_grant_whose_ticket_was_taken_over_grants_no_other_users(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as one, replicas.replica() as other:
            one.grants.before_grant = may_go.wait
            former = one.wait(pool, wait_seconds=2, owner="former", **KEY)
            await until(lambda: bool(one.grants.tries))
            latter = await other.wait(pool, owner="latter", **KEY)
            may_go.set()
            assert (await former).lease.id == latter.lease.id
        assert replicas.order == ["latter"]


class TestListening:
    async def test_a_lost_notification_costs_one_poll_interval(
        self, replicas: Replicas, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "POLL_INTERVAL", 0.3)
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await replicas.until_waiting()
            await replicas.free(one, pool, notify=False)
            await waiting

    async def test_a_cut_connection_comes_back_and_wakes_all_requests(
        self, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "POLL_INTERVAL_WITHOUT_NOTIFY", 600.0)
        pool = await replicas.occupied_pool(2)
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            first, second = one.wait(pool), one.wait(pool)
            await replicas.until_waiting(2)
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

    async def test_without_the_connection_queues_are_polled_more_often(
        self, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool_queue, "POLL_INTERVAL", 600.0)
        pool = await replicas.occupied_pool()
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            waiting = one.wait(pool)
            await replicas.until_waiting()
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

    async def test_a_connection_whose_server_process_has_ended_without_closing_it_is_replaced(
        self, farm: Farm, replicas: Replicas, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listening, "PING_INTERVAL", 0.05)
        wakes = list[UUID | None]()
        async with proxy_to(database_url) as proxy, replicas.replica(listen_url=proxy.url) as one:
            assert one.listener
            proxy.hide_ends()
            one.listener.call(wakes.append)
            await farm.sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'replica-listen'"
            )
            await until(lambda: len(wakes) >= 2)  # one for the lost connection, one for the new one
            assert one.listener.is_connected
