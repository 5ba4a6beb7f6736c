"""Waiting requests: served in the order of the queue, across replicas, with and without NOTIFY."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from botfarm.domain.leases import Grant
from botfarm.domain.pools import Pool
from botfarm.errors import (
    CallerGoneError,
    PoolExhaustedError,
    QuotaExceededError,
    ShuttingDownError,
    TooManyWaitersError,
)
from support.farm import Farm, open_farm
from support.statements import noted
from support.tickets import forge_replica, forge_ticket
from support.waiting import Replica, Replicas, until

both_ways = pytest.mark.parametrize("notify", [True, False], ids=["with NOTIFY", "by polling"])


@pytest.fixture
def notify() -> bool:
    return True


@pytest.fixture
def replicas(farm: Farm, database_url: str, notify: bool) -> Replicas:
    return Replicas(farm, database_url, notify=notify)


async def line_up(replicas: Replicas, *waits: tuple[Replica, Pool, dict[str, Any]]) -> list[Any]:
    """Starts the requests one after the other. The owner of each is its number."""
    waiting = []
    for number, (replica, pool, wanted) in enumerate(waits):
        waiting.append(replica.wait(pool, owner=str(number), **wanted))
        await replicas.until_waiting(number + 1)
    return waiting


class TestOneReplica:
    @both_ways
    async def test_a_waiting_request_gets_a_user_that_is_freed(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await replicas.until_waiting()
            await replicas.free(one, pool)
            assert len((await waiting).lease.users) == 1
            assert await replicas.tickets() == []

    async def test_free_users_are_granted_at_once(self, farm: Farm, replicas: Replicas) -> None:
        async with replicas.replica() as one:
            assert len((await one.wait(await farm.pool(3), count=3)).lease.users) == 3

    @both_ways
    async def test_a_request_without_users_gets_the_counts_of_the_pool_and_its_place(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        async with replicas.replica() as one, replicas.replica() as other:
            other.wait(pool)
            await replicas.until_waiting()
            with pytest.raises(PoolExhaustedError) as caught:
                await one.wait(pool, wait_seconds=0.1)
            details: Any = caught.value.details
            assert (details["total"], details["resting"]) == (2, 2)
            assert (details["waiting"], details["place"]) == (2, 2)
            assert 0.1 <= details["waited"] < 5
            assert len(await replicas.tickets()) == 1

    @both_ways
    async def test_a_user_that_time_alone_frees_is_granted_without_a_notification(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await replicas.until_waiting()
            await farm.sql.execute(
                "UPDATE users SET available_at = clock_timestamp() + interval '300 milliseconds'"
            )
            one.room.wake(pool.project_id)  # as after the lease that made it so
            await waiting

    async def test_an_error_of_the_grant_is_the_answer_and_deletes_the_ticket(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        async with replicas.replica() as one:
            with pytest.raises(QuotaExceededError):
                await one.wait(pool, max_leases=0)
            assert await replicas.tickets() == []
            await one.wait(pool)

    async def test_a_request_over_the_cap_is_refused_at_once(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica(max_waiters=2) as one:
            await line_up(replicas, (one, pool, {"principal": "a"}), (one, pool, {"principal": "b"}))
            with pytest.raises(TooManyWaitersError):
                await one.wait(pool, principal="c")
            assert len(await replicas.tickets()) == 2

    async def test_a_greedy_principal_leaves_places_for_a_modest_one(self, replicas: Replicas) -> None:
        pool, others = await replicas.occupied_pool(), await replicas.occupied_pool()
        async with replicas.replica(max_waiters=20) as one:
            greedy = [one.wait(pool, principal="greedy") for _ in range(20)]
            await replicas.until_waiting(10)
            modest = one.wait(others, principal="modest")
            await replicas.until_waiting(11)
            await replicas.free(one, others)
            assert len((await modest).lease.users) == 1
            refused = [waiting for waiting in greedy if waiting.task.done()]
            assert {type(waiting.task.exception()) for waiting in refused} == {TooManyWaitersError}
            assert len(refused) == 10

    async def test_a_user_that_is_locked_for_a_moment_is_tried_again(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        async with replicas.replica() as one:
            async with farm.sql.transaction():
                await farm.sql.execute("SELECT FROM users FOR UPDATE")
                waiting = one.wait(pool)
                await until(lambda: len(one.grants.tries) >= 2)
            await waiting

    async def test_a_wait_that_is_cancelled_leaves_no_ticket(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await replicas.until_waiting()
            waiting.task.cancel()
            async with asyncio.timeout(60):
                while await replicas.tickets():
                    await asyncio.sleep(0.02)

    async def test_a_stray_ticket_is_withdrawn_and_the_tickets_of_waiting_requests_are_not(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        """Its insertion was committed, and the answer lost."""
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one:
            one.wait(pool)
            await replicas.until_waiting()
            await forge_ticket(farm, pool, one.id)
            one.room._heartbeat.suspect_strays()
            async with asyncio.timeout(60):
                while len(await replicas.tickets()) > 1:
                    await asyncio.sleep(0.02)
            await replicas.free(one, pool)
            assert len((await one.tasks[0]).lease.users) == 1


class TestOrder:
    @both_ways
    async def test_two_replicas_serve_one_queue(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(6)
        async with replicas.replica() as one, replicas.replica() as other:
            await line_up(
                replicas, *((replica, pool, {}) for replica in (one, other, other, one, one, other))
            )
            for served in range(1, 7):
                await replicas.free(one, pool)
                await until(lambda served=served: len(replicas.order) == served)  # type: ignore[misc]
        assert replicas.order == list("012345")

    async def test_a_request_that_arrived_earlier_stands_before_one_whose_ticket_was_inserted_earlier(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        async with replicas.replica() as one, replicas.replica() as other:
            await line_up(replicas, (one, pool, {}), (other, pool, {"ago": 60, "wait_seconds": 120}))
            for served in (1, 2):
                await replicas.free(one, pool)
                await until(lambda served=served: len(replicas.order) == served)  # type: ignore[misc]
        assert replicas.order == ["1", "0"]

    async def test_several_users_at_once_go_to_the_first_requests(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(4)
        async with replicas.replica() as one, replicas.replica() as other:
            waits = await line_up(replicas, *((replica, pool, {}) for replica in (one, other, one, other)))
            await replicas.free(one, pool, 3)
            for waiting in waits[:3]:
                await waiting
            assert sorted(replicas.order) == list("012")
            assert len(await replicas.tickets()) == 1

    @both_ways
    async def test_a_big_count_is_not_starved_by_small_requests(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(4)
        async with replicas.replica() as one, replicas.replica() as other:
            big, *_ = await line_up(replicas, (one, pool, {"count": 3}), (other, pool, {}), (one, pool, {}))
            await replicas.free(other, pool, 2)
            await looked(one, other)
            assert replicas.order == []
            await replicas.free(other, pool, 1)
            assert len((await big).lease.users) == 3
            assert replicas.order == ["0"]
            await replicas.free(other, pool, 1)
            await until(lambda: len(replicas.order) == 2)
        assert replicas.order == ["0", "1"]

    async def test_when_a_big_request_gives_up_the_requests_behind_it_are_served(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        async with replicas.replica() as one, replicas.replica() as other:
            big, small = await line_up(replicas, (one, pool, {"count": 2}), (other, pool, {}))
            await replicas.free(one, pool)
            await looked(one, other)
            big.hang_up()
            with pytest.raises(CallerGoneError):
                await big
            await small

    async def test_a_request_that_can_never_be_served_holds_up_no_other(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        """Three users were there when it came, and one has been quarantined since."""
        pool = await replicas.occupied_pool(3)
        async with replicas.replica() as one, replicas.replica() as other:
            _, small = await line_up(replicas, (one, pool, {"count": 3}), (other, pool, {}))
            await farm.sql.execute(
                """UPDATE users SET status = 'quarantined', status_since = clock_timestamp()
                   WHERE id = (SELECT min(id::text) FROM users)::uuid"""
            )
            await replicas.free(one, pool, 2)
            await small

    async def test_each_step_of_priority_counts_as_a_minute_of_waiting(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(4)
        async with replicas.replica() as one, replicas.replica() as other:
            await line_up(
                replicas,
                (one, pool, {"priority": -1}),
                (other, pool, {}),
                (one, pool, {"priority": 2}),
                (other, pool, {"priority": 1}),
            )
            await farm.sql.execute(  # the first one has waited for three minutes
                "UPDATE tickets SET rank = rank - interval '3 minutes' WHERE owner = '0'"
            )
            for served in range(1, 5):
                await replicas.free(one, pool)
                await until(lambda served=served: len(replicas.order) == served)  # type: ignore[misc]
        assert replicas.order == list("0231")

    @both_ways
    async def test_labels_that_no_user_has_hold_up_no_other_request(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        await farm.user(pool, team="red")
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            _, plain, _ = await line_up(
                replicas, (one, pool, {"labels": {"team": "red"}}), (other, pool, {}), (one, pool, {})
            )
            await farm.sql.execute("UPDATE users SET available_at = clock_timestamp() WHERE labels = '{}'")
            one.notifier.freed(pool.project_id)
            await plain
            await until(lambda: len(replicas.order) == 2)
        assert sorted(replicas.order) == ["1", "2"]

    async def test_a_rare_user_goes_to_the_request_that_needs_it(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(0)
        await farm.user(pool, team="red")
        await farm.user(pool)
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            await line_up(replicas, (one, pool, {"labels": {"team": "red"}}), (other, pool, {}))
            await replicas.free(one, pool, 2)
            await until(lambda: len(replicas.order) == 2)
        assert replicas.order == ["0", "1"]

    async def test_a_replica_that_was_killed_holds_up_the_queue_for_five_seconds(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await farm.pool(1)
        async with replicas.replica() as one:
            dead = await forge_replica(farm, seen_ago=4)
            await forge_ticket(farm, pool, dead)
            waiting = one.wait(pool)
            await replicas.until_waiting(2)
            await looked(one)
            assert not waiting.task.done()
            await farm.sql.execute(
                "UPDATE replicas SET seen_at = seen_at - interval '2 seconds' WHERE id = $1", dead
            )
            one.room.wake(None)
            await waiting


async def looked(*replicas: Replica) -> None:
    """Until each has looked at all of its pools once more."""
    for replica in replicas:
        statements: list[str] = []
        with noted(replica.database, lambda text, _, noted=statements: noted.append(text)):  # type: ignore[misc]
            replica.room.wake(None)
            await until(lambda noted=statements: any("jsonb_agg" in text for text in noted))  # type: ignore[misc]


class TestStopping:
    async def test_all_requests_are_turned_away_at_once_and_keys_keep_their_places(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waits = await line_up(
                replicas,
                (one, pool, {"idempotency_key": "k", "fingerprint": b"f"}),
                (one, pool, {}),
                (other, pool, {}),
            )
            one.room.stop()
            for waiting in waits[:2]:
                with pytest.raises(ShuttingDownError):
                    await waiting
            with pytest.raises(ShuttingDownError):
                await one.wait(pool)
            await one.room.close()
            kept, elsewhere = await replicas.tickets()
            assert (kept["owner"], kept["replica"]) == ("0", None)
            assert elsewhere["owner"] == "2"
            again = other.wait(pool, owner="again", idempotency_key="k", fingerprint=b"f")
            await replicas.until_waiting(2)
            await replicas.free(other, pool)
            await again
            assert replicas.order == ["again"]


async def test_a_thousand_waiting_requests_cost_no_connection_and_next_to_no_queries(
    farm: Farm, replicas: Replicas
) -> None:
    pool = await replicas.occupied_pool(100)
    async with replicas.replica(pool_size=3) as one:
        waits = [one.wait(pool, wait_seconds=120) for _ in range(1_000)]
        await replicas.until_waiting(1_000)
        await looked(one)
        statements: list[str] = []
        with noted(one.database, lambda text, _: statements.append(text)):
            async with asyncio.timeout(60):
                while sum("INSERT INTO replicas" in statement for statement in statements) < 3:
                    await asyncio.sleep(0.05)
        assert len(statements) <= 3 + 2, statements
        connections = await farm.sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'replica%'"
        )
        assert connections <= 3 + 1
        await replicas.free(one, pool, 100)
        await until(lambda: sum(waiting.task.done() for waiting in waits) == 100)
        served = [number for number, waiting in enumerate(waits) if waiting.task.done()]
        assert max(served) < 100, "the first hundred, as they arrived"


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_waits_whose_time_is_over_on_arrival_are_refused_like_any_other(
    database_url: str, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """As after a pause of the process: uvloop and asyncio differ in timers whose time is past."""

    async def wait_late() -> list[BaseException | Grant]:
        async with open_farm(database_url) as farm:
            replicas = Replicas(farm, database_url, notify=True)
            pool = await replicas.occupied_pool()
            async with replicas.replica() as one:
                late = [one.wait(pool, ago=31) for _ in range(20)]
                return await asyncio.gather(*(each.task for each in late), return_exceptions=True)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        outcomes = runner.run(wait_late())
    assert {type(outcome) for outcome in outcomes} == {PoolExhaustedError}


@both_ways
async def test_waits_of_different_lengths_end_each_at_its_own_time(replicas: Replicas) -> None:
    """A later request may have an earlier deadline."""
    pool = await replicas.occupied_pool()
    async with replicas.replica() as one:
        ended: list[float] = []
        waits = [(seconds, one.wait(pool, wait_seconds=seconds)) for seconds in (0.9, 0.3, 0.6)]
        for seconds, waiting in waits:
            waiting.task.add_done_callback(lambda _, seconds=seconds: ended.append(seconds))  # type: ignore[misc]
        for _, waiting in waits:
            with pytest.raises(PoolExhaustedError):
                await waiting
        await until(lambda: len(ended) == len(waits))
    assert ended == [0.3, 0.6, 0.9]
