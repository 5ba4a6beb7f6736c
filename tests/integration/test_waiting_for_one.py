"""Requests that wait for one particular user, and for labels with alternatives, among others in the queue."""

import json

import pytest

from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import Due, Grant, Verdict
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.users import User
from botfarm.domain.wanted_labels import WantedLabels
from botfarm.errors import PoolExhaustedError, UserBusyError
from support.farm import RUNNER, Farm
from support.tickets import forge_replica, forge_ticket
from support.waiting import Replica, Replicas, until


@pytest.fixture
def replicas(farm: Farm, database_url: str) -> Replicas:
    return Replicas(farm, database_url, notify=True)


async def busy_pool(replicas: Replicas, *users: dict[str, str]) -> tuple[Pool, list[User]]:
    """A pool of users with these labels, of which none is free."""
    pool = await replicas.occupied_pool(0)
    made = [await replicas.farm.user(pool, **labels) for labels in users]
    await replicas.occupy(pool)
    return pool, made


async def served(replicas: Replicas, *owners: str) -> None:
    """Until these requests have got users, in this order, and no other has."""
    await until(lambda: len(replicas.order) >= len(owners))
    assert replicas.order == list(owners)


async def released(replicas: Replicas, grant: Grant) -> None:
    holder = Principal(grant.lease.principal, Role.RUNNER, EVERYTHING)
    await replicas.farm.services.leases.release(holder, grant.lease.id, Verdict())


class TestOneUser:
    async def test_two_waiters_of_one_user_are_served_in_order_and_hold_up_nobody_else(
        self, replicas: Replicas
    ) -> None:
        pool, (one, other) = await busy_pool(replicas, {}, {})
        async with replicas.replica() as here, replicas.replica() as there:
            first = here.wait(pool, owner="first", user_id=one.id)
            await replicas.until_waiting(1)
            second = there.wait(pool, owner="second", user_id=one.id)
            await replicas.until_waiting(2)
            any_user = there.wait(pool, owner="any")
            await replicas.until_waiting(3)

            await replicas.free_users(here, other)
            assert (await any_user).lease.users[0].id == other.id
            await replicas.free_users(here, one)
            assert (await first).lease.users[0].id == one.id
            await served(replicas, "any", "first")
            await released(replicas, await first)
            assert (await second).lease.users[0].id == one.id
        assert replicas.order == ["any", "first", "second"]

    async def test_the_user_goes_to_its_waiter_and_the_other_free_one_to_the_request_behind(
        self, replicas: Replicas
    ) -> None:
        pool, users = await busy_pool(replicas, {}, {})
        async with replicas.replica() as here, replicas.replica() as there:
            for one in users:  # whichever of both comes first in the pool
                replicas.order.clear()
                await replicas.occupy(pool)
                mine = here.wait(pool, owner="mine", user_id=one.id)
                await replicas.until_waiting(1)
                any_user = there.wait(pool, owner="any")
                await replicas.until_waiting(2)
                await replicas.free_users(there, *users)
                assert (await mine).lease.users[0].id == one.id
                assert (await any_user).lease.users[0].id != one.id
                await served(replicas, "mine", "any")
                for grant in (await mine, await any_user):
                    await released(replicas, grant)

    async def test_a_request_of_the_pool_that_came_first_may_take_the_user(self, replicas: Replicas) -> None:
        pool, (one,) = await busy_pool(replicas, {})
        async with replicas.replica() as here, replicas.replica() as there:
            any_user = there.wait(pool, owner="any")
            await replicas.until_waiting(1)
            mine = here.wait(pool, owner="mine", user_id=one.id)
            await replicas.until_waiting(2)
            await replicas.free_users(here, one)
            await served(replicas, "any")
            await released(replicas, await any_user)
            await mine
        assert replicas.order == ["any", "mine"]

    async def test_a_request_that_does_not_wait_gets_any_user_but_the_one_that_is_waited_for(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool, (one, other) = await busy_pool(replicas, {}, {})
        await forge_ticket(farm, pool, await forge_replica(farm), user_id=one.id)
        async with replicas.replica() as here:
            await replicas.free_users(here, one, other)
            got = await here.ask(pool)
            assert isinstance(got, Grant)
            assert got.lease.users[0].id == other.id
            for user_id in (None, one.id):
                counts = await here.ask(pool, user_id=user_id)
                assert isinstance(counts, PoolCounts)
                assert (counts.free, counts.waiting) == (1, 1)
            with pytest.raises(UserBusyError):
                await farm.lock(one.id)

    async def test_a_request_for_one_user_does_not_overtake_the_queue_when_it_does_not_wait(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool, (one,) = await busy_pool(replicas, {})
        await forge_ticket(farm, pool, await forge_replica(farm))
        async with replicas.replica() as here:
            await replicas.free_users(here, one)
            assert isinstance(await here.ask(pool, user_id=one.id), PoolCounts)

    async def test_a_keeper_gets_the_others_that_are_due(self, farm: Farm) -> None:
        pool = await farm.pool(2, check_every=3_600)
        one = await farm.sql.fetchval("SELECT id FROM users WHERE project_id = $1 LIMIT 1", pool.project_id)
        await forge_ticket(farm, pool, await forge_replica(farm), user_id=one)
        (user,) = (await farm.chore(pool)).users
        assert (user.id == one, user.due) == (False, (Due.CHECK,))
        with pytest.raises(PoolExhaustedError):
            await farm.chore(pool)

    async def test_a_user_that_goes_out_of_service_holds_up_nobody(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool, (one, other) = await busy_pool(replicas, {}, {})
        async with replicas.replica() as here:
            mine = here.wait(pool, owner="mine", user_id=one.id, wait_seconds=3)
            await replicas.until_waiting(1)
            any_user = here.wait(pool, owner="any")
            await replicas.until_waiting(2)
            await farm.sql.execute("DELETE FROM users WHERE id = $1", one.id)
            await replicas.free_users(here, other)
            await any_user
            with pytest.raises(PoolExhaustedError) as refused:
                await mine
        assert refused.value.details["total"] == 0


class TestLabels:
    @pytest.mark.parametrize(
        ("wanted", "fitting"),
        [
            ({"plan": ("paid", "trial")}, {"paid", "trial", "old trial"}),
            ({"plan": ("paid", "trial"), "legacy": None}, {"paid", "trial"}),
            ({"legacy": None}, {"paid", "trial", "none"}),
            ({"plan": "trial", "legacy": None}, {"trial"}),
            ({"plan": None}, {"none"}),
            ({"plan": ("gold", "silver")}, set()),
            ({'a"b': None, "plan": ("paid", 'x"y')}, {"paid"}),
        ],
    )
    async def test_a_user_fits_by_one_of_several_values_or_by_having_no_such_label(
        self, farm: Farm, wanted: WantedLabels, fitting: set[str]
    ) -> None:
        pool = await farm.pool(0)
        names = {
            (await farm.user(pool, **labels)).id: name
            for name, labels in {
                "paid": {"plan": "paid"},
                "trial": {"plan": "trial"},
                "old trial": {"plan": "trial", "legacy": ""},
                "none": {},
            }.items()
        }
        if fitting:
            lease = await farm.acquire(pool, labels=wanted, count=len(fitting))
            assert {names[user.id] for user in lease.users} == fitting
            seen = await farm.services.leases.get(RUNNER, lease.id)
            assert json.dumps(seen.labels, sort_keys=True) == json.dumps(wanted, sort_keys=True)

    async def test_alternatives_stand_in_the_queue_as_labels_do(self, replicas: Replicas) -> None:
        pool, (paid, trial, other) = await busy_pool(
            replicas, {"plan": "paid"}, {"plan": "trial", "legacy": "1"}, {"plan": "free"}
        )
        async with replicas.replica() as here, replicas.replica() as there:
            waits: list[tuple[Replica, str, WantedLabels]] = [
                (here, "paid or trial", {"plan": ("paid", "trial")}),
                (there, "paid", {"plan": "paid"}),
                (here, "not legacy", {"legacy": None}),
                (there, "any", {}),
            ]
            waiting = {}
            for number, (replica, owner, labels) in enumerate(waits):
                waiting[owner] = replica.wait(pool, owner=owner, labels=labels)
                await replicas.until_waiting(number + 1)
            await replicas.free_users(here, other)
            await served(replicas, "not legacy")
            await replicas.free_users(there, trial)
            await served(replicas, "not legacy", "paid or trial")
            await replicas.free_users(here, paid)
            await served(replicas, "not legacy", "paid or trial", "paid")
            await released(replicas, await waiting["not legacy"])
            await served(replicas, "not legacy", "paid or trial", "paid", "any")

    async def test_a_user_that_is_relabelled_goes_to_the_request_that_waits_for_it(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool, (user,) = await busy_pool(replicas, {"plan": "free", "legacy": "1"})
        async with replicas.replica() as here:
            here.wait(pool, owner="paid or trial", labels={"plan": ("paid", "trial")})
            await replicas.until_waiting(1)
            modern = here.wait(pool, owner="modern", labels={"legacy": None})
            await replicas.until_waiting(2)
            await replicas.free_users(here, user)
            await farm.sql.execute("UPDATE users SET labels = labels - 'legacy' WHERE id = $1", user.id)
            here.notifier.freed(pool.project_id)
            await served(replicas, "modern")
            await farm.sql.execute("UPDATE users SET labels = $2 WHERE id = $1", user.id, '{"plan": "trial"}')
            await released(replicas, await modern)
            await served(replicas, "modern", "paid or trial")

    async def test_a_user_that_is_relabelled_before_the_grant_is_not_granted(
        self, farm: Farm, replicas: Replicas
    ) -> None:
        pool, (user,) = await busy_pool(replicas, {"plan": "trial"})

        async def relabel() -> None:
            await farm.sql.execute("UPDATE users SET labels = $2 WHERE id = $1", user.id, '{"plan": "gold"}')

        async with replicas.replica() as here:
            here.grants.before_grant = relabel
            waiting = here.wait(pool, owner="0", labels={"plan": ("paid", "trial")}, wait_seconds=2)
            await replicas.until_waiting(1)
            await replicas.free_users(here, user)
            with pytest.raises(PoolExhaustedError):
                await waiting
            assert here.grants.tries
        assert replicas.order == []
