"""The way of a user from a release to the request that waits first, at another replica."""

import asyncio
from collections.abc import Collection
from uuid import UUID

import pytest

from botfarm.domain.leases import Grant, Purpose
from botfarm.errors import CallerGoneError
from botfarm.services.shared import notifier as notifying
from botfarm.services.shared.notifier import Notifier
from botfarm.services.waiting import pool_queue
from support.farm import Farm
from support.statements import noted
from support.tickets import forge_replica, forge_ticket
from support.waiting import Replicas, until


@pytest.fixture
def replicas(farm: Farm, database_url: str) -> Replicas:
    return Replicas(farm, database_url, notify=True)


@pytest.fixture(autouse=True)
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue is read only when it is woken."""
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL", 600.0)
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL_WITHOUT_NOTIFY", 600.0)


async def forget(farm: Farm, sent: list[UUID]) -> None:
    """Forgets what the set-up has sent, and what it left to send."""
    await farm.services.leases._notifier.close()
    sent.clear()


class TestNotification:
    @pytest.fixture
    def sent(self, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
        """The projects that the notifier looked for tickets in, with a statement after the release."""
        notify, projects = Notifier._notify, list[UUID]()

        async def noting(notifier: Notifier, freed: Collection[UUID]) -> None:
            projects.extend(freed)
            await notify(notifier, set(freed))

        monkeypatch.setattr(Notifier, "_notify", noting)
        return projects

    async def test_a_release_that_sees_a_ticket_notifies_with_its_own_commit(
        self, farm: Farm, replicas: Replicas, sent: list[UUID]
    ) -> None:
        pool = await farm.pool(1)
        lease = await farm.acquire(pool)
        async with replicas.replica() as one:
            waiting = one.wait(pool)
            await one.until_at_rest(pool)
            await forget(farm, sent)
            await farm.release(lease)
            await waiting
        assert sent == []

    async def test_a_ticket_that_a_release_in_flight_does_not_see_is_woken_after_the_commit(
        self, farm: Farm, replicas: Replicas, sent: list[UUID]
    ) -> None:
        pool = await farm.pool(1)
        lease = await farm.acquire(pool)
        async with replicas.replica() as one:
            async with farm.database.transaction() as session:
                await (await session.connection()).exec_driver_sql("SELECT FROM leases FOR UPDATE")
                releasing = asyncio.create_task(farm.release(lease))
                await farm.until_blocked()
                waiting = one.wait(pool)
                await one.until_at_rest(pool)  # it has found no free user
                await forget(farm, sent)
            await releasing
            await waiting
        assert sent == [pool.project_id]

    async def test_releases_in_quick_succession_leave_it_to_the_debounced_statement(
        self, farm: Farm, replicas: Replicas, sent: list[UUID], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notifying, "QUIET", 600.0)
        pool = await farm.pool(2)
        leases = [await farm.acquire(pool), await farm.acquire(pool)]
        async with replicas.replica() as one:
            first, second = one.wait(pool), one.wait(pool)
            await replicas.until_waiting(2)
            await one.until_at_rest(pool)
            await forget(farm, sent)
            await farm.release(leases[0])
            assert sent == []
            await farm.release(leases[1])
            await first
            await second
        assert sent == [pool.project_id]

    async def test_a_release_takes_the_turn_from_others_until_it_has_notified_nobody(
        self, farm: Farm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(notifying, "QUIET", 600.0)
        notifier = farm.services.leases._notifier
        notifier.give_turn_back()
        assert [notifier.take_turn(), notifier.take_turn()] == [True, False]
        pool = await farm.pool(1)
        notifier.give_turn_back()
        await farm.release(await farm.acquire(pool))
        assert notifier.take_turn()


class TestFirstTicket:
    async def test_it_is_granted_before_the_queue_is_read(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        statements: list[str] = []
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await one.until_at_rest(pool)
            with noted(one.database, lambda text, _: statements.append(text)):
                await replicas.free(other, pool)
                await waiting
        assert "INSERT INTO leases" in statements[0]
        assert "DELETE FROM tickets" in statements[0]

    async def test_the_others_get_the_other_users_that_were_freed(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(3)
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = [one.wait(pool, owner="first")]
            await replicas.until_waiting(1)
            waiting += [one.wait(pool), other.wait(pool)]
            await replicas.until_waiting(3)
            await one.until_at_rest(pool)
            await replicas.free(other, pool, 3)
            for each in waiting:
                await each
        assert [request.terms.owner for request in one.grants.first_tries] == ["first"]

    async def test_it_is_not_granted_when_a_ticket_of_a_higher_priority_has_come_meanwhile(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        may_go = asyncio.Event()
        async with replicas.replica() as one, replicas.replica() as other:
            former_first = one.wait(pool, owner="former first")
            await one.until_at_rest(pool)
            other.grants.before_grant = may_go.wait
            new_first = other.wait(pool, owner="new first", priority=1)
            await replicas.until_waiting(2)
            await replicas.free(other, pool)
            await until(lambda: bool(one.grants.first_tries))
            await until(lambda: not any(waiter.granting for waiter in one.room._waiters))
            may_go.set()
            await new_first
            assert replicas.order == ["new first"]
            await replicas.occupy(pool)
            await replicas.free(other, pool)
            await former_first

    async def test_while_it_is_tried_no_other_is_granted(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(2)
        may_go = asyncio.Event()
        async with replicas.replica() as one, replicas.replica() as other:
            first = one.wait(pool, owner="first")
            await one.until_at_rest(pool)
            second = one.wait(pool, owner="second")
            await replicas.until_waiting(2)
            await one.until_at_rest(pool)
            one.grants.before_grant = may_go.wait
            await replicas.free(other, pool, 2)
            await until(lambda: bool(one.grants.first_tries))
            one.room.wake(pool.project_id)
            reading = one.room._queues[pool, Purpose.TEST]._loop
            await until(lambda: reading._due_at == float("inf"))
            tries = list(one.grants.tries)
            may_go.set()
            await first
            await second
        assert [request.terms.owner for request in tries] == ["first"]
        assert replicas.order == ["first", "second"]

    async def test_after_lost_connections_the_queue_is_read_before_anything_is_tried(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        """A try on a lost connection would answer the request with 503, and a reading that fails is repeated."""
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await one.until_at_rest(pool)
            with noted(one.database, lambda text, _: statements.append(text)):
                statements: list[str] = []
                await farm.sql.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'replica%'"
                )
                await until(lambda: any("dense_rank" in text for text in statements))
            assert one.grants.tries == []
            await until(lambda: one.listener is not None and one.listener.is_connected)
            await replicas.free(other, pool)
            await waiting

    async def test_a_ticket_of_a_dead_replica_does_not_stand_before_it(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await one.until_at_rest(pool)
            await forge_ticket(farm, pool, await forge_replica(farm, seen_ago=10))
            await replicas.free(other, pool)
            await waiting
            assert len(one.grants.first_tries) == len(one.grants.tries) == 1

    async def test_a_big_count_in_front_keeps_the_users_that_are_too_few_for_it(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        async with replicas.replica() as one, replicas.replica() as other:
            big = one.wait(pool, owner="big", count=2)
            await one.until_at_rest(pool)
            small = other.wait(pool, owner="small")
            await replicas.until_waiting(2)
            await replicas.free(other, pool)
            await replicas.free(other, pool)
            assert len((await big).lease.users) == 2
            assert replicas.order == ["big"]
            assert one.grants.first_tries == [], "a try would lock users in vain"
            await replicas.occupy(pool)
            await replicas.free(other, pool)
            await small

    async def test_while_it_wants_another_kind_of_user_the_next_ticket_is_served(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(1, plan="free")
        await farm.user(pool, plan="paid")
        await replicas.occupy(pool)
        async with replicas.replica() as one, replicas.replica() as other:
            paid = one.wait(pool, labels={"plan": "paid"})
            await one.until_at_rest(pool)
            free = one.wait(pool, labels={"plan": "free"})
            await replicas.until_waiting(2)
            await replicas.free(other, pool, labels='{"plan": "free"}')
            await free
            await replicas.free(other, pool, labels='{"plan": "paid"}')
            await paid

    async def test_a_grant_in_flight_wins_over_a_caller_that_hangs_up(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool)
            await one.until_at_rest(pool)
            async with replicas.held_grants():
                await replicas.free(other, pool)
                await farm.until_blocked()
                waiting.hang_up()
                await one.until_leaving()
                assert not waiting.task.done()
            assert len((await waiting).lease.users) == 1

    async def test_a_caller_that_has_hung_up_before_is_granted_nothing(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            gone = one.wait(pool, owner="gone")
            await one.until_at_rest(pool)
            second = other.wait(pool, owner="second")
            await replicas.until_waiting(2)
            gone.hang_up()
            with pytest.raises(CallerGoneError):
                await gone
            await replicas.free(other, pool)
            await second
        assert replicas.order == ["second"]

    async def test_a_request_whose_key_has_got_a_lease_elsewhere_gets_that_lease(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool(2)
        key = {"idempotency_key": "one", "fingerprint": b"the same"}
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool, **key)
            await one.until_at_rest(pool)
            await replicas.free(other, pool, notify=False)
            # Its process seems dead, so its ticket stands in front of nobody.
            await farm.sql.execute("UPDATE replicas SET seen_at = seen_at - interval '10 seconds'")
            elsewhere = await other.ask(pool, **key)
            assert isinstance(elsewhere, Grant)
            await farm.sql.execute("UPDATE replicas SET seen_at = clock_timestamp()")
            await replicas.free(other, pool)
            assert (await waiting).lease.id == elsewhere.lease.id
            assert len(one.grants.first_tries) == 1

    async def test_one_that_no_users_suffice_for_is_not_tried(self, replicas: Replicas) -> None:
        pool = await replicas.occupied_pool(1)
        async with replicas.replica() as one, replicas.replica() as other:
            impossible = one.wait(pool, owner="impossible", count=2)
            await replicas.until_waiting(1)
            possible = one.wait(pool, owner="possible")
            await replicas.until_waiting(2)
            await until(lambda: len(one.room._waiters.of_queue((pool, Purpose.TEST))) == 2)
            await replicas.free(other, pool)
            await possible
            assert one.grants.first_tries == []
            impossible.hang_up()

    async def test_a_request_with_a_quota_is_granted_under_the_lock_of_its_quota(
        self, replicas: Replicas
    ) -> None:
        pool = await replicas.occupied_pool()
        async with replicas.replica() as one, replicas.replica() as other:
            waiting = one.wait(pool, max_leases=1)
            await one.until_at_rest(pool)
            await replicas.free(other, pool)
            await waiting
            assert one.grants.first_tries == []
