"""Users that fail: outcomes of single users, failures in a row, and the quarantine by policy with its cap."""

import asyncio
from collections import Counter

import httpx
import pytest
from sqlalchemy import text

from botfarm.db.leasing import advisory_locks
from botfarm.domain.leases import Lease, Outcome, Purpose, Reason, Verdict
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserState, UserStatus
from botfarm.errors import InvalidRequestError, PoolExhaustedError, UserRetiredError
from support.farm import MANAGER, RUNNER, Farm
from support.http import LEASE, assert_problem, create_project, create_user


async def states(farm: Farm, pool: Pool) -> Counter[str]:
    (usage,) = [each for each in await farm.services.pools.list(MANAGER.scope) if each.pool == pool]
    counts = {state: getattr(usage.counts, state) for state in UserState}
    return Counter({state.value: count for state, count in counts.items() if count})


async def fail(farm: Farm, pool: Pool, reason: Reason | None = Reason.CAPTCHA) -> Lease:
    return await farm.release(await farm.acquire(pool), Outcome.BROKEN, reason)


async def test_the_third_failure_in_a_row_quarantines_with_reason_and_lease(farm: Farm) -> None:
    pool = await farm.pool(1)
    for failures in (1, 2):
        lease = await fail(farm, pool, Reason.MFA)
        assert (await farm.seen(lease.users[0].id)).failures == failures
    last = await fail(farm, pool, Reason.CAPTCHA)
    user = await farm.seen(last.users[0].id)
    assert (user.state, user.status_by, user.status_reason) == (UserState.QUARANTINED, "policy", "captcha")
    assert (user.lease_id, user.status_until) == (last.id, None)
    entry = await farm.sql.fetchrow("SELECT * FROM audit WHERE action = 'quarantine_user'")
    assert (entry["principal"], entry["target_id"]) == ("policy", str(user.id))
    assert str(last.id) in entry["details"]


async def test_a_good_test_in_between_starts_the_count_again(farm: Farm) -> None:
    pool = await farm.pool(1)
    for _ in range(3):
        await fail(farm, pool)
        await fail(farm, pool)
        lease = await farm.release(await farm.acquire(pool))
    assert (await farm.seen(lease.users[0].id)).failures == 0


@pytest.mark.parametrize("reason", [Reason.RATE_LIMITED, Reason.ENVIRONMENT])
async def test_what_says_nothing_about_the_user_does_not_count(farm: Farm, reason: Reason) -> None:
    pool = await farm.pool(1)
    for _ in range(4):
        lease = await fail(farm, pool, reason)
    user = await farm.seen(lease.users[0].id)
    assert (user.failures, user.status) == (0, UserStatus.ACTIVE)


async def test_without_a_policy_no_failure_quarantines(farm: Farm) -> None:
    pool = await farm.pool(1, quarantine_after=0)
    for _ in range(5):
        lease = await fail(farm, pool)
    assert (await farm.seen(lease.users[0].id)).state is UserState.FREE


async def test_what_is_said_of_one_user_overrides_what_is_said_of_all(farm: Farm) -> None:
    pool = await farm.pool(3)
    lease = await farm.acquire(pool, count=3)
    first, second, third = (user.id for user in lease.users)
    released = await farm.services.leases.release(
        RUNNER,
        lease.id,
        Verdict(Outcome.BROKEN, Reason.DATA, "the fixtures are gone"),
        {first: Verdict(Outcome.OK), second: Verdict(Outcome.BROKEN, Reason.CAPTCHA, "asks for a picture")},
    )
    listed = await farm.services.leases.get(RUNNER, lease.id)
    for seen in (released, listed):
        verdicts = {user.id: Verdict(user.outcome, user.reason, user.note) for user in seen.users}
        assert verdicts[first] == Verdict(Outcome.OK)
        assert verdicts[second] == Verdict(Outcome.BROKEN, Reason.CAPTCHA, "asks for a picture")
        assert verdicts[third] == Verdict(Outcome.BROKEN, Reason.DATA, "the fixtures are gone")
    assert [(await farm.seen(user_id)).failures for user_id in (first, second, third)] == [0, 1, 1]


async def test_a_user_that_is_not_of_the_lease_is_named_and_nothing_released(farm: Farm) -> None:
    pool = await farm.pool(2)
    lease, other = await farm.acquire(pool), await farm.acquire(pool)
    with pytest.raises(InvalidRequestError) as caught:
        await farm.services.leases.release(
            RUNNER, lease.id, Verdict(), {lease.users[0].id: Verdict(), other.users[0].id: Verdict()}
        )
    assert caught.value.details["errors"] == [
        {"field": "users.1.id", "code": "unknown", "message": "is no user of the lease"}
    ]
    assert (await farm.services.leases.get(RUNNER, lease.id)).is_live


async def test_bad_releases_are_refused_over_http(api: httpx.AsyncClient) -> None:
    await create_user(api, await create_project(api))
    lease = (await api.post("/leases", json=LEASE)).json()
    user_id, path = lease["users"][0]["id"], f"/leases/{lease['id']}/release"
    for body, field in (
        ({"outcome": "broken", "reason": "moon"}, "reason"),
        ({"outcome": "ok", "reason": "captcha"}, "reason"),
        ({"users": [{"id": user_id, "outcome": "gone"}]}, "users.0.outcome"),
        ({"users": [{"id": user_id}, {"id": user_id}]}, "users"),
    ):
        problem = assert_problem(await api.post(path, json=body), 422, "invalid-request")
        assert problem["errors"][0]["field"] == field
    assert (await api.get(f"/leases/{lease['id']}")).json()["ended_at"] is None


async def test_a_share_of_the_pool_at_most_is_quarantined_within_an_hour(farm: Farm) -> None:
    pool = await farm.pool(10, quarantine_after=1)
    lease = await farm.acquire(pool, count=10)
    await farm.release(lease, Outcome.BROKEN, Reason.CREDENTIAL_REJECTED)
    assert await states(farm, pool) == {"quarantined": 3, "free": 7}
    withheld = await farm.sql.fetchval("SELECT count(*) FROM audit WHERE action = 'withhold_quarantine'")
    assert withheld == 7
    await fail(farm, pool)
    assert await states(farm, pool) == {"quarantined": 3, "free": 7}
    await farm.sql.execute(
        "UPDATE users SET quarantined_by_policy_at = quarantined_by_policy_at - interval '61 minutes'"
    )
    await fail(farm, pool)
    assert await states(farm, pool) == {"quarantined": 4, "free": 6}


async def test_a_small_pool_may_lose_one(farm: Farm) -> None:
    pool = await farm.pool(2, quarantine_after=1, quarantine_share=0)
    for _ in range(2):
        await fail(farm, pool)
    assert await states(farm, pool) == {"quarantined": 1, "free": 1}


async def test_a_restored_user_still_counts_for_the_hour(farm: Farm) -> None:
    pool = await farm.pool(2, quarantine_after=1)
    first = await fail(farm, pool)
    await farm.services.user_statuses.restore(MANAGER, first.users[0].id, note=None, clean=None)
    for _ in range(2):
        await fail(farm, pool)
    assert await states(farm, pool) == {"free": 2}


async def test_two_replicas_at_once_keep_the_cap(farm: Farm) -> None:
    """Both releases are under way before either decides: the lock of the pool makes one wait for the other."""
    pool = await farm.pool(2, quarantine_after=1)
    leases = [await farm.acquire(pool), await farm.acquire(pool)]
    async with farm.database.transaction() as session:
        await advisory_locks.lock_pool(session, pool)
        releases = [asyncio.create_task(farm.release(lease, Outcome.BROKEN)) for lease in leases]
        await farm.until_blocked(2)
    await asyncio.gather(*releases)
    assert await states(farm, pool) == {"quarantined": 1, "free": 1}


async def test_an_expired_lease_counts_only_where_the_policy_says_so(farm: Farm) -> None:
    for counts, failures in ((False, 0), (True, 1)):
        pool = await farm.pool(1, count_expired=counts)
        lease = await farm.acquire(pool)
        await farm.expire(lease.id)
        await farm.services.maintenance.reap()
        assert (await farm.seen(lease.users[0].id)).failures == failures
        other = await farm.acquire(await farm.pool(1, count_expired=counts))
        await farm.services.leases.force_release(MANAGER, other.id, reason="stuck")
        assert (await farm.seen(other.users[0].id)).failures == failures


async def test_expired_leases_quarantine_too(farm: Farm) -> None:
    pool = await farm.pool(1, count_expired=True, quarantine_after=2, lock_delay=0)
    for _ in range(2):
        lease = await farm.acquire(pool)
        await farm.expire(lease.id, rested=True)
        assert await farm.services.maintenance.reap() == 1
    user = await farm.seen(lease.users[0].id)
    assert (user.status, user.status_reason) == (UserStatus.QUARANTINED, "other")


async def test_an_expired_lease_that_no_worker_has_seen_counts_at_the_next_grant(farm: Farm) -> None:
    pool = await farm.pool(1, count_expired=True, lock_delay=0)
    lease = await farm.acquire(pool)
    await farm.expire(lease.id, rested=True)
    again = await farm.acquire(pool)
    await farm.services.maintenance.reap()
    assert (await farm.seen(again.users[0].id)).failures == 1


async def test_a_leased_user_is_quarantined_from_its_release_on(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    user_id = lease.users[0].id
    statuses = farm.services.user_statuses
    await statuses.quarantine(MANAGER, user_id, reason="looks odd", until=None)
    assert (await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=None)).is_live
    await farm.release(lease)
    user = await farm.seen(user_id)
    assert (user.status, user.status_by, user.status_reason) == (
        UserStatus.QUARANTINED, MANAGER.name, "looks odd",
    )  # fmt: skip
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    restored = await statuses.restore(MANAGER, user_id, note="mended", clean=None)
    assert restored.state is UserState.FREE
    assert (await farm.acquire(pool)).users[0].id == user_id


async def test_a_quarantine_ends_by_the_clock_alone(farm: Farm) -> None:
    pool = await farm.pool(1)
    user_id = (await farm.acquire(pool)).users[0].id
    await farm.sql.execute("UPDATE users SET locktime = NULL, expires_at = NULL, available_at = now()")
    until = await farm.sql.fetchval("SELECT clock_timestamp() + interval '1 hour'")
    await farm.services.user_statuses.quarantine(MANAGER, user_id, reason="blocked", until=until)
    assert (await farm.seen(user_id)).status_until == until
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert 3_590 < caught.value.details["next_free_in"] <= 3_600
    await farm.sql.execute("UPDATE users SET status_until = clock_timestamp() - interval '1 second'")
    user = await farm.seen(user_id)
    assert (user.status, user.state, user.status_reason) == (UserStatus.ACTIVE, UserState.FREE, None)
    await farm.acquire(pool)
    stored = await farm.sql.fetchrow("SELECT status, status_until, status_by, status_since FROM users")
    assert tuple(stored) == ("active", None, None, None)


async def test_a_retired_user_stays_retired(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    user_id, statuses = lease.users[0].id, farm.services.user_statuses
    await statuses.retire(MANAGER, user_id, reason="the tenant is gone")
    await farm.release(lease)
    user = await farm.seen(user_id)
    assert (user.state, user.status_reason) == (UserState.RETIRED, "the tenant is gone")
    for change in (
        statuses.restore(MANAGER, user_id, note=None, clean=None),
        statuses.quarantine(MANAGER, user_id, reason="why", until=None),
    ):
        with pytest.raises(UserRetiredError):
            await change
    (usage,) = await farm.services.pools.list(MANAGER.scope)
    assert (usage.counts.total, usage.counts.retired) == (0, 1)


async def test_a_user_that_is_retired_while_a_person_holds_it_is_counted_once(farm: Farm) -> None:
    pool = await farm.pool(2)
    lease = await farm.acquire(pool, MANAGER, purpose=Purpose.HOLD)
    await farm.services.user_statuses.retire(MANAGER, lease.users[0].id, reason="the tenant is gone")
    (usage,) = await farm.services.pools.list(MANAGER.scope)
    assert (usage.counts.total, usage.counts.free, usage.counts.held, usage.counts.retired) == (1, 1, 0, 1)


async def test_a_restore_and_a_quarantine_by_policy_at_the_same_moment(farm: Farm) -> None:
    """Whichever comes last decides, and both are in the audit."""
    pool = await farm.pool(4, quarantine_after=1)
    lease = await farm.acquire(pool)
    user_id = lease.users[0].id
    statuses = farm.services.user_statuses
    await statuses.quarantine(MANAGER, user_id, reason="first", until=None)
    async with farm.database.transaction() as session:
        await session.execute(text("SELECT FROM users FOR UPDATE"))
        restoring = asyncio.create_task(statuses.restore(MANAGER, user_id, note=None, clean=None))
        await farm.until_blocked(1)
        releasing = asyncio.create_task(farm.release(lease, Outcome.BROKEN, Reason.DATA))
        await farm.until_blocked(2)
    await asyncio.gather(restoring, releasing)
    user = await farm.seen(user_id)
    assert (user.status, user.status_by, user.status_reason) == (UserStatus.QUARANTINED, "policy", "data")
    actions = await farm.sql.fetch("SELECT action FROM audit WHERE target_id = $1 ORDER BY id", str(user_id))
    assert [row["action"] for row in actions][-2:] == ["restore_user", "quarantine_user"]
