"""Dirty users and what keepers do with them: cleaning, checks, sessions; and that no test gets an unclean user."""

import asyncio
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY

from botfarm.domain.health import Health
from botfarm.domain.leases import Due, Lease, LeaseTerms, Outcome, Purpose, Reason
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserChanges, UserState, UserStatus
from botfarm.errors import ForbiddenError, PoolExhaustedError, UserBusyError
from support.farm import KEEPER, MANAGER, RUNNER, Connection, Farm
from support.http import LEASE, assert_problem, create_project, create_user


async def due(farm: Farm, pool: Pool) -> tuple[Lease, list[Due]]:
    lease = await farm.chore(pool)
    return lease, list(lease.users[0].due)


async def hold(farm: Farm, user_id: UUID) -> Lease:
    grant = await farm.services.user_acquiring.hold(MANAGER, user_id, LeaseTerms(), connection=Connection())
    return grant.lease


@pytest.mark.parametrize(
    ("cleaning", "outcome", "state"),
    [
        ("off", Outcome.DIRTY, UserState.FREE),
        ("on_dirty", Outcome.OK, UserState.FREE),
        ("on_dirty", Outcome.BROKEN, UserState.FREE),
        ("on_dirty", Outcome.DIRTY, UserState.DIRTY),
        ("required", Outcome.OK, UserState.DIRTY),
        ("required", Outcome.BROKEN, UserState.DIRTY),
    ],
)
async def test_after_a_test_a_user_waits_for_a_keeper_as_the_policy_says(
    farm: Farm, cleaning: str, outcome: Outcome, state: UserState
) -> None:
    pool = await farm.pool(1, cleaning=cleaning)
    lease = await farm.release(await farm.acquire(pool), outcome)
    assert (await farm.seen(lease.users[0].id)).state is state
    assert (await farm.services.leases.get(RUNNER, lease.id)).outcome is outcome


async def test_a_keeper_cleans_and_the_next_test_gets_the_user(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    test = await farm.release(await farm.acquire(pool))
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert (caught.value.details["dirty"], caught.value.details["next_free_in"]) == (1, None)
    chore, kinds = await due(farm, pool)
    assert (kinds, chore.purpose, chore.users[0].id) == ([Due.CLEAN], Purpose.CHORE, test.users[0].id)
    assert (await farm.seen(chore.users[0].id)).state is UserState.CHORE
    await farm.release(chore)
    user = await farm.seen(chore.users[0].id)
    assert (user.state, user.health, user.status_since) == (UserState.FREE, Health.OK, None)
    assert user.checked_at == user.healthy_at is not None
    await farm.acquire(pool)


async def test_a_keeper_gets_no_user_that_is_clean_and_not_due(farm: Farm) -> None:
    pool = await farm.pool(9, cleaning="required")
    test = await farm.release(await farm.acquire(pool))
    assert (await farm.chore(pool)).users[0].id == test.users[0].id
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)


async def test_an_expired_test_is_dirty_with_no_worker_and_stays_so_with_one(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required", lock_delay=0)
    lease = await farm.acquire(pool)
    await farm.expire(lease.id, rested=True)
    for _ in range(2):
        user = await farm.seen(lease.users[0].id)
        assert (user.status, user.state) == (UserStatus.DIRTY, UserState.DIRTY)
        with pytest.raises(PoolExhaustedError):
            await farm.acquire(pool)
        await farm.services.maintenance.reap()
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.CLEAN]
    await farm.release(chore)
    await farm.acquire(pool)


async def test_a_keeper_finds_an_expired_test_that_no_worker_has_seen(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required", lock_delay=0)
    lease = await farm.acquire(pool)
    await farm.expire(lease.id, rested=True)
    _, kinds = await due(farm, pool)
    assert kinds == [Due.CLEAN]
    await farm.services.maintenance.reap()
    assert (await farm.seen(lease.users[0].id)).state is UserState.CHORE


async def test_a_renewed_chore_says_again_what_is_due(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    await farm.release(await farm.acquire(pool))
    chore = await farm.chore(pool)
    renewed = await farm.services.leases.renew(KEEPER, chore.id, ttl_seconds=None)
    assert renewed.users[0].due == chore.users[0].due == (Due.CLEAN,)


async def test_a_forced_test_is_dirty_too(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required", lock_delay=0)
    lease = await farm.acquire(pool)
    await farm.services.leases.force_release(MANAGER, lease.id, reason="stuck")
    assert (await farm.seen(lease.users[0].id)).state is UserState.DIRTY


@pytest.mark.parametrize("seen", [True, False])
async def test_an_expired_chore_counts_as_dirty(farm: Farm, seen: bool) -> None:
    pool = await farm.pool(1, cleaning="required", clean_attempts=2, lock_delay=0)
    await farm.release(await farm.acquire(pool))
    for attempt in (1, 2):
        chore = await farm.chore(pool)
        await farm.expire(chore.id, rested=True)
        if seen:
            await farm.services.maintenance.reap()
        state = (await farm.seen(chore.users[0].id)).state
        assert state is (UserState.QUARANTINED if seen and attempt == 2 else UserState.DIRTY)
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)
    await farm.services.maintenance.reap()
    user = await farm.seen(chore.users[0].id)
    assert (user.state, user.status_reason) == (UserState.QUARANTINED, "cleaning_failed")


async def test_after_so_many_attempts_the_user_is_quarantined(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    await farm.release(await farm.acquire(pool))
    for state in (UserState.DIRTY, UserState.DIRTY, UserState.QUARANTINED):
        chore = await farm.release(await farm.chore(pool), Outcome.DIRTY)
        assert (await farm.seen(chore.users[0].id)).state is state
    restored = await farm.services.user_statuses.restore(MANAGER, chore.users[0].id, note=None, clean=None)
    assert restored.state is UserState.DIRTY
    assert await farm.sql.fetchval("SELECT failed_chores FROM users") == 0


@pytest.mark.parametrize("reason", [Reason.CREDENTIAL_REJECTED, Reason.LOCKED_OUT])
async def test_rejected_credentials_quarantine_at_once_until_they_change(farm: Farm, reason: Reason) -> None:
    pool = await farm.pool(1, check_every=60)
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.CHECK]
    await farm.release(chore, Outcome.BROKEN, reason)
    user = await farm.seen(chore.users[0].id)
    assert (user.state, user.status_reason, user.health) == (UserState.QUARANTINED, reason, Health.FAILING)
    await farm.services.users.update(MANAGER, user.id, UserChanges(password="a new one"))
    user = await farm.seen(user.id)
    assert (user.state, user.health) == (UserState.DIRTY, Health.UNKNOWN)
    chore = await farm.chore(pool)
    assert chore.users[0].password == "a new one"


async def test_a_rejected_user_that_the_cap_spares_is_not_probed_again(farm: Farm) -> None:
    pool = await farm.pool(2, check_every=60)
    for _ in range(2):
        await farm.release(await farm.chore(pool), Outcome.BROKEN, Reason.LOCKED_OUT)
    states = [row["status"] for row in await farm.sql.fetch("SELECT status FROM users ORDER BY status")]
    assert states == ["dirty", "quarantined"]
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)


async def test_an_environment_that_is_away_changes_nothing_but_health(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required", clean_attempts=1)
    await farm.release(await farm.acquire(pool))
    for _ in range(3):
        chore = await farm.release(await farm.chore(pool), Outcome.BROKEN, Reason.ENVIRONMENT)
    user = await farm.seen(chore.users[0].id)
    assert (user.state, user.health, user.failures) == (UserState.DIRTY, Health.UNREACHABLE, 0)


async def test_checks_are_due_by_time(farm: Farm) -> None:
    pool = await farm.pool(1, check_every=3_600)
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.CHECK]
    await farm.release(chore)
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)
    await farm.sql.execute("UPDATE users SET checked_at = checked_at - interval '1 hour'")
    _, kinds = await due(farm, pool)
    assert kinds == [Due.CHECK]


async def test_rotations_are_due_by_time_and_the_keepers_ok_says_that_they_are_done(farm: Farm) -> None:
    pool = await farm.pool(1, rotate_every=3_600)
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)
    await farm.sql.execute("UPDATE users SET created_at = created_at - interval '1 hour'")
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.ROTATE]
    await farm.release(chore)
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)


async def test_a_session_is_refreshed_before_it_ends(farm: Farm) -> None:
    pool = await farm.pool(1, session_refresh=600)
    test = await farm.acquire(pool)
    soon = await farm.sql.fetchval("SELECT clock_timestamp() + interval '5 minutes'")
    await farm.services.lease_credentials.write_back(
        RUNNER, test.id, test.users[0].id, password=None, secrets={"session": "s-1"}, session_expires_at=soon
    )
    await farm.release(test)
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.SESSION]
    later = await farm.sql.fetchval("SELECT clock_timestamp() + interval '1 day'")
    await farm.services.lease_credentials.write_back(
        KEEPER,
        chore.id,
        chore.users[0].id,
        password=None,
        secrets={"session": "s-2"},
        session_expires_at=later,
    )
    await farm.release(chore)
    assert (await farm.seen(chore.users[0].id)).session_expires_at == later
    with pytest.raises(PoolExhaustedError):
        await farm.chore(pool)


async def test_two_grants_of_one_user_are_a_gap_apart(farm: Farm) -> None:
    pool = await farm.pool(1, login_gap=600)
    await farm.release(await farm.acquire(pool))
    with pytest.raises(PoolExhaustedError) as caught:
        await farm.acquire(pool)
    assert 590 < caught.value.details["next_free_in"] <= 600


async def test_a_keeper_waits_and_a_release_wakes_it(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    test = await farm.acquire(pool)
    waiting = asyncio.create_task(farm.chore(pool, wait_seconds=60))
    await until_waiting(farm)
    await farm.release(test)
    assert (await waiting).users[0].id == test.users[0].id


async def test_a_keeper_that_waits_is_woken_when_a_chore_falls_due(farm: Farm) -> None:
    pool = await farm.pool(1, check_every=3_600)
    await farm.release(await farm.chore(pool))
    await farm.sql.execute("UPDATE users SET checked_at = clock_timestamp() - interval '3599.5 seconds'")
    assert (await farm.chore(pool, wait_seconds=30)).users[0].due == (Due.CHECK,)


async def test_no_chore_stands_in_front_of_a_test_that_waits(farm: Farm) -> None:
    """The user is due for a check when it is released, and a test waits: the test gets it first."""
    pool = await farm.pool(1, check_every=1)
    first = await farm.acquire(pool)
    keeper = asyncio.create_task(farm.chore(pool, wait_seconds=60))
    await until_waiting(farm)
    test = asyncio.create_task(farm.acquire(pool, wait_seconds=60))
    await until_waiting(farm, 2)
    await farm.release(first)
    second = await test
    assert not keeper.done()
    await farm.release(second)
    assert (await keeper).users[0].due == (Due.CHECK,)


async def test_a_dirty_user_goes_to_a_keeper_while_tests_wait(farm: Farm) -> None:
    pool = await farm.pool(1, cleaning="required")
    await farm.release(await farm.acquire(pool))
    test = asyncio.create_task(farm.acquire(pool, wait_seconds=60))
    await until_waiting(farm)
    await farm.release(await farm.chore(pool))
    await test


async def test_a_policy_that_changes_meanwhile_counts_at_the_end_of_the_test(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    await farm.sql.execute("UPDATE projects SET cleaning = 'required'")
    await farm.release(lease)
    assert (await farm.seen(lease.users[0].id)).state is UserState.DIRTY
    await farm.sql.execute("UPDATE projects SET cleaning = 'off'")
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    await farm.release(await farm.chore(pool))
    await farm.acquire(pool)


async def test_a_runner_does_no_chores_and_holds_nothing(farm: Farm) -> None:
    pool = await farm.pool(1)
    for principal, purpose in ((RUNNER, Purpose.CHORE), (RUNNER, Purpose.HOLD), (KEEPER, Purpose.HOLD)):
        with pytest.raises(ForbiddenError):
            await farm.acquire(pool, principal, purpose=purpose)


async def test_holds_over_http(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api, max_hold=7_200)
    user = await create_user(api, project_id)
    await api.post(f"/users/{user['id']}/quarantine", json={"reason": "looks odd"})
    hold = {"purpose": "hold", "user_id": user["id"], "note": "a look at the cart"}
    held = (await api.post("/leases", json=hold)).json()
    assert (held["purpose"], held["note"], held["ttl_seconds"]) == ("hold", "a look at the cart", 7_200)
    assert held["users"][0]["password"]
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "held"
    assert_problem(await api.post("/leases", json=hold), 409, "user-busy")
    released = (await api.post(f"/leases/{held['id']}/release")).json()
    assert released["note"] == "a look at the cart"
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "quarantined"
    assert_problem(await api.post("/leases", json={**LEASE, "purpose": "hold"}), 409, "pool-exhausted")
    await api.post(f"/users/{user['id']}/restore")
    held = (await api.post("/leases", json={**LEASE, "purpose": "hold", "ttl_seconds": 60})).json()
    assert (held["users"][0]["id"], held["ttl_seconds"]) == (user["id"], 60)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**LEASE, "user_id": "6ceeab8a-c751-4269-81b1-df948d89b699"}, "user_id"),
        ({**LEASE, "note": "why"}, "note"),
        ({**LEASE, "purpose": "hold", "wait_seconds": 5}, "wait_seconds"),
        (
            {"purpose": "hold", "user_id": "6ceeab8a-c751-4269-81b1-df948d89b699", "project": "shop"},
            "project",
        ),
        ({"purpose": "hold", "project": "shop"}, "env"),
        ({**LEASE, "purpose": "party"}, "purpose"),
    ],
)
async def test_a_request_that_does_not_fit_its_purpose_is_refused(
    api: httpx.AsyncClient, body: dict[str, object], field: str
) -> None:
    problem = assert_problem(await api.post("/leases", json=body), 422, "invalid-request")
    assert [error["field"] for error in problem["errors"]] == [field]


async def test_a_hold_that_outlives_its_ttl_ends_like_any_lease(farm: Farm) -> None:
    pool = await farm.pool(1, lock_delay=0, cleaning="required")
    lease = await farm.acquire(pool, MANAGER, purpose=Purpose.HOLD)
    assert (await farm.seen(lease.users[0].id)).state is UserState.HELD
    await farm.expire(lease.id, rested=True)
    assert (await farm.seen(lease.users[0].id)).state is UserState.DIRTY
    await farm.services.maintenance.reap()
    assert (await farm.seen(lease.users[0].id)).state is UserState.DIRTY


async def test_a_hold_of_a_user_that_is_leased_and_quarantined_is_told_that_it_is_busy(farm: Farm) -> None:
    """A hold gets a quarantined user, so the quarantine is not what stands in its way."""
    lease = await farm.acquire(await farm.pool(1))
    user_id = lease.users[0].id
    await farm.services.user_statuses.quarantine(MANAGER, user_id, reason="looks odd", until=None)
    with pytest.raises(UserBusyError) as caught:
        await hold(farm, user_id)
    assert 0 < caught.value.details["expires_in"] <= 900


@pytest.mark.parametrize("seen", [True, False])
async def test_a_person_may_hold_a_dirty_user_whether_a_worker_has_seen_the_expiry_or_not(
    farm: Farm, seen: bool
) -> None:
    lease = await farm.acquire(await farm.pool(1, cleaning="required", lock_delay=3_600))
    await farm.expire(lease.id)
    if seen:
        await farm.services.maintenance.reap()
    await hold(farm, lease.users[0].id)
    assert (await farm.seen(lease.users[0].id)).state is UserState.HELD


async def test_a_user_whose_quarantine_has_ended_is_checked_when_it_is_due(farm: Farm) -> None:
    pool = await farm.pool(1, check_every=60)
    await farm.sql.execute("""
        UPDATE users SET status = 'quarantined', status_since = now(), status_by = 'manager',
               status_until = clock_timestamp() - interval '1 second'""")
    chore, kinds = await due(farm, pool)
    assert kinds == [Due.CHECK]
    stored = await farm.sql.fetchrow("SELECT status, status_until, status_since FROM users")
    assert tuple(stored) == ("active", None, None)
    await farm.release(chore)
    await farm.acquire(pool)


async def test_gauges_and_counters_of_health(farm: Farm) -> None:
    pool = await farm.pool(2, cleaning="required", clean_attempts=5)
    await farm.release(await farm.acquire(pool))
    await farm.release(await farm.chore(pool), Outcome.BROKEN, Reason.DATA)
    await farm.sql.execute("UPDATE users SET status_since = status_since - interval '1 hour'")
    await farm.services.maintenance.refresh_gauges()
    project = await farm.services.projects.get(MANAGER.scope, pool.project_id)
    labels = {"project": project.name, "env": "stage", "domain": "regular"}

    def value(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(f"botfarm_{name}", {**labels, **more})

    assert (value("users", state="dirty"), value("users", state="free")) == (1, 1)
    assert (value("users_health", health="failing"), value("users_health", health="unknown")) == (1, 1)
    assert 3_600 <= (value("oldest_dirty_seconds") or 0) < 3_700
    assert value("chores_total", due="clean", outcome="broken") == 1


async def until_waiting(farm: Farm, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while await farm.sql.fetchval("SELECT count(*) FROM tickets WHERE replica IS NOT NULL") < count:
            await asyncio.sleep(0.005)
