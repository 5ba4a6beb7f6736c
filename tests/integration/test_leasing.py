"""The rules of a lease, asked of the services on a real database. Races are in test_interleavings.py."""

from datetime import timedelta
from uuid import uuid4

import pytest

from botfarm.crypto.key_ring import KeyRingError
from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import EndedBy, LeaseFilter, LeaseState, Outcome, Verdict
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserState
from botfarm.errors import (
    LeaseLapsedError,
    NoSuchLeaseError,
    NoSuchPoolError,
    NoSuchProjectError,
    NotTheHolderError,
    PoolExhaustedError,
    PoolTooSmallError,
    UserQuarantinedError,
)
from support.farm import MANAGER, OTHER_RUNNER, PASSWORD, RUNNER, Farm


async def test_a_lease_gives_the_holder_a_login_and_a_password_that_can_be_typed(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool, owner="job 7")
    assert lease.users[0].password == PASSWORD
    assert lease.owner == "job 7"
    stored = await farm.sql.fetchval("SELECT password FROM users")
    assert PASSWORD not in stored
    assert stored.startswith("v1.test.")


async def test_a_leased_user_is_in_no_other_lease(farm: Farm) -> None:
    pool = await farm.pool(3)
    leases = [await farm.acquire(pool) for _ in range(3)]
    assert len({lease.users[0].id for lease in leases}) == 3
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert caught.value.details["leased"] == 3
    assert 0 < caught.value.details["next_free_in"] <= 915


async def test_a_later_lease_has_a_higher_fence(farm: Farm) -> None:
    pool = await farm.pool(3)
    fences = [(await farm.acquire(pool)).fence for _ in range(3)]
    assert fences == sorted(set(fences))


async def test_several_users_are_granted_together_or_not_at_all(farm: Farm) -> None:
    pool = await farm.pool(3)
    lease = await farm.acquire(pool, count=2)
    assert len({user.id for user in lease.users}) == 2
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool, count=2)
    assert len((await farm.acquire(pool, count=1)).users) == 1


async def test_more_users_than_the_pool_has_are_refused_at_once(farm: Farm) -> None:
    with pytest.raises(PoolTooSmallError):
        await farm.acquire(await farm.pool(2), count=3)


async def test_a_pool_without_users_is_refused_as_not_found(farm: Farm) -> None:
    pool = await farm.pool(1)
    with pytest.raises(NoSuchPoolError):
        await farm.acquire(Pool(pool.project_id, "prod", "canary"))
    with pytest.raises(NoSuchPoolError):
        await farm.acquire(pool, labels={"language": "klingon"})
    with pytest.raises(NoSuchProjectError):
        await farm.acquire(Pool(uuid4(), "prod", "canary"))


async def test_labels_choose_the_users_that_have_all_of_them(farm: Farm) -> None:
    pool = await farm.pool(2)
    french = await farm.user(pool, language="fr", plan="paid")
    lease = await farm.acquire(pool, labels={"language": "fr"})
    assert [user.id for user in lease.users] == [french.id]


async def test_the_ttl_is_the_projects_default_and_never_over_its_maximum(farm: Farm) -> None:
    pool = await farm.pool(3, default_ttl=100, max_ttl=200, max_hold=150)
    assert (await farm.acquire(pool)).ttl_seconds == 100
    assert (await farm.acquire(pool, ttl_seconds=120)).ttl_seconds == 120
    capped = await farm.acquire(pool, ttl_seconds=1_000)
    assert capped.ttl_seconds == 150
    assert capped.expires_at == capped.hold_until
    assert capped.expires_at - capped.acquired_at == timedelta(seconds=150)


async def test_renew_lengthens_never_shortens_and_stops_at_the_total_hold(farm: Farm) -> None:
    pool = await farm.pool(1, default_ttl=100, max_ttl=200, max_hold=250)
    lease = await farm.acquire(pool)
    longer = await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=200)
    assert longer.expires_at > lease.expires_at
    assert longer.ttl_seconds == 200
    unchanged = await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=1)
    assert unchanged.expires_at == longer.expires_at
    await farm.sql.execute("UPDATE leases SET hold_until = expires_at")
    at_the_cap = await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=200)
    assert at_the_cap.expires_at == longer.expires_at


async def test_a_renewed_lease_keeps_its_user_from_others_until_its_new_end(farm: Farm) -> None:
    pool = await farm.pool(1, lock_delay=0)
    lease = await farm.acquire(pool, ttl_seconds=60)
    renewed = await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=600)
    user = await farm.services.users.get(EVERYTHING, lease.users[0].id)
    assert user.expires_at == renewed.expires_at == user.available_at


async def test_only_the_holder_renews_and_releases(farm: Farm) -> None:
    lease = await farm.acquire(await farm.pool(1))
    with pytest.raises(NotTheHolderError):
        await farm.services.leases.renew(OTHER_RUNNER, lease.id, ttl_seconds=None)
    with pytest.raises(NotTheHolderError):
        await farm.services.leases.release(OTHER_RUNNER, lease.id)
    with pytest.raises(NoSuchLeaseError):
        await farm.services.leases.release(RUNNER, uuid4())
    assert (await farm.services.leases.get(OTHER_RUNNER, lease.id)).users[0].password is None


async def test_release_frees_the_user_and_may_be_repeated(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    released = await farm.services.leases.release(
        RUNNER, lease.id, Verdict(Outcome.DIRTY, note="cart not emptied")
    )
    assert (released.ended_by, released.outcome) == (EndedBy.RELEASED, Outcome.DIRTY)
    assert released.users[0].locktime is None
    assert (await farm.services.leases.release(RUNNER, lease.id)).outcome is Outcome.DIRTY
    assert (await farm.acquire(pool)).users[0].id == lease.users[0].id


async def test_after_a_release_the_user_rests_for_the_cooldown(farm: Farm) -> None:
    pool = await farm.pool(1, cooldown=600)
    lease = await farm.acquire(pool)
    await farm.services.leases.release(RUNNER, lease.id)
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert caught.value.details["resting"] == 1
    assert 590 < caught.value.details["next_free_in"] <= 600


async def test_an_expired_lease_is_lapsed_reaped_or_not(farm: Farm) -> None:
    lease = await farm.acquire(await farm.pool(1))
    await farm.expire(lease.id)
    seen = await farm.services.leases.get(RUNNER, lease.id)
    assert (seen.ended_by, seen.users[0].password, seen.users[0].locktime) == (EndedBy.EXPIRED, None, None)
    for _ in range(2):
        with pytest.raises(LeaseLapsedError):
            await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=None)
        with pytest.raises(LeaseLapsedError):
            await farm.services.leases.release(RUNNER, lease.id)
        await farm.services.maintenance.reap()


async def test_after_an_expired_lease_the_user_rests_for_the_lock_delay(farm: Farm) -> None:
    pool = await farm.pool(1, lock_delay=300)
    lease = await farm.acquire(pool)
    await farm.expire(lease.id)
    for _ in range(2):
        assert (await farm.services.users.get(EVERYTHING, lease.users[0].id)).state is UserState.RESTING
        with pytest.raises(PoolExhaustedError):
            await farm.acquire(pool)
        await farm.services.maintenance.reap()


async def test_an_old_lease_id_cannot_free_the_next_holders_user(farm: Farm) -> None:
    pool = await farm.pool(1)
    old = await farm.acquire(pool)
    await farm.expire(old.id, rested=True)
    new = await farm.acquire(pool, OTHER_RUNNER)
    assert new.users[0].id == old.users[0].id
    with pytest.raises(LeaseLapsedError):
        await farm.services.leases.release(RUNNER, old.id)
    with pytest.raises(LeaseLapsedError):
        await farm.services.leases.renew(RUNNER, old.id, ttl_seconds=None)
    await farm.services.leases.force_release(MANAGER, old.id, reason="tidy up")
    assert await farm.services.maintenance.reap() == 1
    assert (await farm.services.users.get(EVERYTHING, new.users[0].id)).locktime == new.acquired_at
    assert (await farm.services.leases.renew(OTHER_RUNNER, new.id, ttl_seconds=None)).is_live


async def test_force_release_ends_the_lease_of_any_holder_and_lets_the_user_rest(farm: Farm) -> None:
    pool = await farm.pool(1, lock_delay=300)
    lease = await farm.acquire(pool)
    forced = await farm.services.leases.force_release(MANAGER, lease.id, reason="stuck job")
    assert forced.ended_by is EndedBy.FORCED
    assert (await farm.services.users.get(EVERYTHING, lease.users[0].id)).state is UserState.RESTING
    assert (
        await farm.services.leases.force_release(MANAGER, lease.id, reason="again")
    ).ended_at == forced.ended_at
    with pytest.raises(LeaseLapsedError):
        await farm.services.leases.release(RUNNER, lease.id)


async def test_grants_go_round_the_pool(farm: Farm) -> None:
    pool = await farm.pool(6)
    used = []
    for _ in range(12):
        lease = await farm.acquire(pool)
        used.append(lease.users[0].id)
        await farm.services.leases.release(RUNNER, lease.id)
    assert len(set(used[:6])) == 6
    assert used[:6] == used[6:]


async def test_grants_of_batches_go_round_the_pool_too(farm: Farm) -> None:
    pool = await farm.pool(5)
    used = []
    for _ in range(5):
        lease = await farm.acquire(pool, count=2)
        used += [user.id for user in lease.users]
        await farm.services.leases.release(RUNNER, lease.id)
    assert {used.count(user_id) for user_id in used} == {2}


async def test_an_ended_lease_shows_nothing_of_the_next_holder(farm: Farm) -> None:
    pool = await farm.pool(1)
    first = await farm.acquire(pool)
    await farm.services.leases.release(RUNNER, first.id)
    await farm.acquire(pool, OTHER_RUNNER)
    assert (await farm.services.leases.get(RUNNER, first.id)).users[0].locktime is None


async def test_a_password_that_cannot_be_decrypted_holds_up_no_other_request(farm: Farm) -> None:
    pool = await farm.pool(2)
    for stored in ("plain", "v1.gone.AAAA", "v1.test.!"):
        broken = await farm.sql.fetchval(
            """UPDATE users SET password = $1 WHERE id = (SELECT id FROM users ORDER BY id LIMIT 1)
               RETURNING id""",
            stored,
        )
        with pytest.raises(KeyRingError):
            await farm.lock(broken)
        assert (await farm.services.users.get(EVERYTHING, broken)).state is UserState.RESTING, (
            "the next request gets another one"
        )
        assert (await farm.acquire(pool)).users[0].password == PASSWORD
        await farm.sql.execute(
            "UPDATE users SET locktime = NULL, expires_at = NULL, available_at = clock_timestamp()"
        )


async def test_a_quarantined_user_is_not_granted(farm: Farm) -> None:
    pool = await farm.pool(1)
    user_id = await farm.sql.fetchval(
        "UPDATE users SET status = 'quarantined', status_since = clock_timestamp() RETURNING id"
    )
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert caught.value.details["quarantined"] == 1
    with pytest.raises(UserQuarantinedError):
        await farm.lock(user_id)


async def test_history_is_listed_newest_first_page_by_page_without_passwords(farm: Farm) -> None:
    pool = await farm.pool(3)
    taken = [await farm.acquire(pool) for _ in range(3)]
    await farm.services.leases.release(RUNNER, taken[0].id)
    first = await farm.services.leases.list(EVERYTHING, LeaseFilter(), cursor=None, limit=2)
    rest = await farm.services.leases.list(EVERYTHING, LeaseFilter(), cursor=first.next_cursor, limit=2)
    assert [lease.id for lease in first.items + rest.items] == [lease.id for lease in reversed(taken)]
    assert rest.next_cursor is None
    assert all(user.password is None for lease in first.items for user in lease.users)
    active = await farm.services.leases.list(
        EVERYTHING, LeaseFilter(state=LeaseState.ACTIVE), cursor=None, limit=9
    )
    ended = await farm.services.leases.list(
        EVERYTHING, LeaseFilter(state=LeaseState.ENDED), cursor=None, limit=9
    )
    assert len(active.items) == 2
    assert [lease.id for lease in ended.items] == [taken[0].id]
    of_user = LeaseFilter(user_id=taken[1].users[0].id)
    assert [
        lease.id
        for lease in (await farm.services.leases.list(EVERYTHING, of_user, cursor=None, limit=9)).items
    ] == [taken[1].id]
