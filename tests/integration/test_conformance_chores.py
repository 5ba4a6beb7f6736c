"""The fake farm of the SDK and the real one answer alike, here about chores, health, rotation and the policy."""

import asyncio
from typing import Any

import httpx
import pytest

from support.conformance import FarmOf, Subject, in_seconds, problem, users

HOUR = 3_600


def one(lease: dict[str, Any]) -> str:
    (user,) = lease["users"]
    return str(user["id"])


async def rotation(farm: Subject, lease: dict[str, Any], step: str = "", **body: Any) -> httpx.Response:
    return await farm.api.post(f"/leases/{lease['id']}/users/{one(lease)}/rotation{step}", json=body)


async def test_a_chore_has_the_fields_of_the_contract(farm_of: FarmOf) -> None:
    farm = await farm_of(check_every=HOUR)
    chore = await farm.chore()
    (user,) = chore["users"]
    assert (chore["purpose"], chore["ttl_seconds"], user["due"]) == ("chore", 60, ["check"])
    assert user["password"]
    assert "pending_password" not in user
    assert (await farm.seen(user["id"]))["state"] == "chore"
    read = (await farm.api.get(f"/leases/{chore['id']}")).json()
    assert read["users"][0]["due"] == ["check"]
    told = await farm.acquire(purpose="chore")
    assert problem(told, 409, "pool-exhausted")["next_free_in"] is None
    assert told.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    ("cleaning", "outcome", "state"),
    [
        ("off", "dirty", "free"),
        ("on_dirty", "ok", "free"),
        ("on_dirty", "broken", "free"),
        ("on_dirty", "dirty", "dirty"),
        ("required", "ok", "dirty"),
        ("required", "broken", "dirty"),
    ],
)
async def test_after_a_test_a_user_waits_for_a_keeper_as_the_policy_says(
    farm_of: FarmOf, cleaning: str, outcome: str, state: str
) -> None:
    farm = await farm_of(cleaning=cleaning)
    lease = await farm.taken()
    await farm.post(lease, "release", outcome=outcome)
    assert (await farm.seen(one(lease)))["state"] == state


@pytest.mark.parametrize("how", ["released", "expired", "forced"])
async def test_where_cleaning_is_required_no_test_gets_the_user_of_another(farm_of: FarmOf, how: str) -> None:
    farm = await farm_of(cleaning="required", lock_delay=0)
    lease = await farm.taken()
    if how == "expired":
        await farm.end_by_time(lease["id"])
    elif how == "released":
        await farm.post(lease, "release")
    else:
        await farm.post(lease, "force_release", reason="stuck")
    assert problem(await farm.acquire(), 409, "pool-exhausted")["dirty"] == 1
    chore = await farm.chore()
    assert chore["users"][0]["due"] == ["clean"]
    await farm.post(chore, "release")
    seen = await farm.seen(one(chore))
    assert (seen["state"], seen["health"], seen["checked_at"]) == ("free", "ok", seen["healthy_at"])
    assert one(await farm.taken()) == one(lease)


async def test_failed_chores_leave_the_user_dirty_and_then_quarantined(farm_of: FarmOf) -> None:
    farm = await farm_of(cleaning="required", clean_attempts=2, lock_delay=0)
    await farm.post(await farm.taken(), "release")
    for state, reason in (("dirty", None), ("quarantined", "cleaning_failed")):
        chore = await farm.chore()
        await farm.post(chore, "release", outcome="dirty")
        seen = await farm.seen(one(chore))
        assert (seen["state"], seen["status_reason"], seen["failures"]) == (state, reason, 0)
    assert (await farm.change(one(chore), "restore")).json()["state"] == "dirty"
    await farm.chore()


async def test_a_chore_that_expires_has_failed(farm_of: FarmOf) -> None:
    farm = await farm_of(cleaning="required", clean_attempts=1, lock_delay=0)
    await farm.post(await farm.taken(), "release")
    await farm.end_by_time((await farm.chore())["id"])
    problem(await farm.acquire(purpose="chore"), 409, "pool-exhausted")


@pytest.mark.parametrize("reason", ["credential_rejected", "locked_out"])
async def test_rejected_credentials_quarantine_at_once(farm_of: FarmOf, reason: str) -> None:
    farm = await farm_of(check_every=1)
    chore = await farm.chore()
    await farm.post(chore, "release", outcome="broken", reason=reason)
    seen = await farm.seen(one(chore))
    assert (seen["state"], seen["status_reason"], seen["status_by"]) == ("quarantined", reason, "policy")
    assert (seen["health"], seen["health_reason"], seen["failures"]) == ("failing", reason, 1)
    await farm.pass_time(5)
    problem(await farm.acquire(purpose="chore"), 409, "pool-exhausted")
    restored = (await farm.change(one(chore), "restore", clean=True)).json()
    assert (restored["state"], restored["health"], restored["failures"]) == ("dirty", "unknown", 0)
    assert (await farm.chore())["users"][0]["due"] == ["clean", "check"]


async def test_an_environment_that_is_away_changes_nothing_but_health(farm_of: FarmOf) -> None:
    farm = await farm_of(cleaning="required", clean_attempts=1)
    await farm.post(await farm.taken(), "release")
    for reason, health in (("rate_limited", "unknown"), ("environment", "unreachable")):
        chore = await farm.chore()
        await farm.post(chore, "release", outcome="broken", reason=reason)
        seen = await farm.seen(one(chore))
        assert (seen["state"], seen["health"], seen["failures"]) == ("dirty", health, 0)


async def test_checks_and_rotations_are_due_by_time(farm_of: FarmOf) -> None:
    farm = await farm_of(check_every=HOUR, rotate_every=2 * HOUR)
    for kinds in (["check"], ["check"], ["check", "rotate"], ["check"]):
        chore = await farm.chore()
        assert chore["users"][0]["due"] == kinds
        await farm.post(chore, "release")
        problem(await farm.acquire(purpose="chore"), 409, "pool-exhausted")
        await farm.pass_time(HOUR + 1)


async def test_a_user_whose_quarantine_has_ended_is_checked_when_it_is_due(farm_of: FarmOf) -> None:
    farm = await farm_of(check_every=HOUR)
    chore = await farm.chore()
    await farm.post(chore, "release")
    await farm.change(one(chore), "quarantine", reason="blocked", until=in_seconds(HOUR))
    await farm.pass_time(HOUR + 1)
    assert (await farm.chore())["users"][0]["due"] == ["check"]


async def test_a_session_is_refreshed_before_it_ends(farm_of: FarmOf) -> None:
    farm = await farm_of(session_refresh=600)
    for ends_in, keeper_writes in ((300, False), (300, True)):
        lease = await farm.taken()
        path = f"/leases/{lease['id']}/users/{one(lease)}"
        await farm.api.patch(path, json={"session_expires_at": in_seconds(ends_in)})
        await farm.post(lease, "release")
        chore = await farm.chore()
        assert chore["users"][0]["due"] == ["session"]
        if keeper_writes:
            path = f"/leases/{chore['id']}/users/{one(chore)}"
            await farm.api.patch(path, json={"session_expires_at": in_seconds(HOUR)})
        await farm.post(chore, "release")
        assert ((await farm.seen(one(chore)))["session_expires_at"] is not None) is keeper_writes
        problem(await farm.acquire(purpose="chore"), 409, "pool-exhausted")


async def test_a_keeper_that_waits_gets_what_a_test_leaves(farm_of: FarmOf) -> None:
    farm = await farm_of(cleaning="required")
    lease = await farm.taken()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(farm.acquire(purpose="chore", wait_seconds=20))
        await asyncio.sleep(0)
        await farm.post(lease, "release")
    assert waiting.result().status_code == 201
    assert waiting.result().json()["users"][0]["due"] == ["clean"]


async def test_a_user_that_is_only_due_goes_to_a_test_that_waits_first(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2), check_every=1)
    held = await farm.taken()
    async with asyncio.TaskGroup() as group:
        test = group.create_task(farm.acquire(count=2, wait_seconds=20))
        while (answer := await farm.acquire(purpose="chore")).status_code == 201:
            await farm.post(answer.json(), "release", outcome="broken", reason="rate_limited")
            await asyncio.sleep(0.01)
        assert problem(answer, 409, "pool-exhausted")["waiting"] == 1
        await farm.post(held, "release")
    await farm.post(test.result().json(), "release")
    await farm.chore()


async def test_a_password_changes_in_two_phases(farm_of: FarmOf) -> None:
    farm = await farm_of(rotate_on_release=True)
    lease = await farm.taken()
    old = lease["users"][0]["password"]
    await farm.post(lease, "release")
    chore = await farm.chore()
    assert chore["users"][0]["due"] == ["clean", "rotate"]
    problem(await rotation(farm, chore, "/confirm"), 409, "no-rotation")
    started = await rotation(farm, chore)
    pending = started.json()["pending_password"]
    assert (started.status_code, len(pending)) == (200, 24)
    assert (await rotation(farm, chore, password=pending)).json()["pending_password"] == pending
    problem(await rotation(farm, chore, password="another"), 409, "rotation-pending")
    read = (await farm.api.get(f"/leases/{chore['id']}")).json()["users"][0]
    assert (read["password"], read["pending_password"]) == (old, pending)
    for _ in range(2):
        confirmed = await rotation(farm, chore, "/confirm")
        assert (confirmed.status_code, confirmed.json()["password"]) == (200, pending)
        assert "pending_password" not in confirmed.json()
    await farm.post(chore, "release")
    assert (await farm.seen(one(chore)))["rotated_at"] is not None
    assert (await farm.taken())["users"][0]["password"] == pending


async def test_a_keeper_that_dies_leaves_both_passwords_to_the_next(farm_of: FarmOf) -> None:
    farm = await farm_of(check_every=1, lock_delay=0)
    chore = await farm.chore()
    await rotation(farm, chore, password="the-new-one")
    assert (await farm.seen(one(chore)))["is_rotating"]
    await farm.end_by_time(chore["id"])
    problem(await rotation(farm, chore, "/confirm"), 410, "lease-lapsed")
    assert problem(await farm.acquire(), 409, "pool-exhausted")["dirty"] == 1
    assert (await farm.change(one(chore), "restore", clean=False)).json()["state"] == "dirty"
    following = await farm.chore()
    (user,) = following["users"]
    assert (user["password"], user["pending_password"]) == (chore["users"][0]["password"], "the-new-one")
    assert {"clean", "rotate"} <= set(user["due"])
    await farm.post(following, "release")
    assert (await farm.seen(user["id"]))["state"] == "dirty", "it is not confirmed"


async def test_a_password_that_is_written_back_ends_a_rotation(farm_of: FarmOf) -> None:
    farm = await farm_of(check_every=1)
    chore = await farm.chore()
    await rotation(farm, chore)
    path = f"/leases/{chore['id']}/users/{one(chore)}"
    written = (await farm.api.patch(path, json={"password": "as-it-was"})).json()
    assert (written["password"], "pending_password" in written) == ("as-it-was", False)
    problem(await rotation(farm, chore, "/confirm"), 409, "no-rotation")
    await farm.post(chore, "release")
    assert (await farm.taken())["users"][0]["password"] == "as-it-was"


async def test_failures_in_a_row_quarantine(farm_of: FarmOf) -> None:
    farm = await farm_of(quarantine_after=2)
    for outcome, reason, failures in (
        ("broken", "captcha", 1),
        ("ok", None, 0),
        ("broken", "rate_limited", 0),
        ("broken", "environment", 0),
        ("broken", "captcha", 1),
        ("dirty", None, 1),
        ("broken", "mfa", 2),
    ):
        lease = await farm.taken()
        await farm.post(lease, "release", outcome=outcome, reason=reason)
        assert (await farm.seen(one(lease)))["failures"] == failures
    seen = await farm.seen(one(lease))
    assert (seen["state"], seen["status_by"], seen["status_reason"]) == ("quarantined", "policy", "mfa")


async def test_the_policy_quarantines_a_share_of_the_pool_within_an_hour(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(7), quarantine_after=1)
    lease = await farm.taken(count=7)
    await farm.post(lease, "release", outcome="broken", reason="captcha")
    assert problem(await farm.acquire(count=7), 409, "pool-exhausted")["quarantined"] == 2
    again = await farm.taken()
    await farm.post(again, "release", outcome="broken")
    assert (await farm.seen(one(again)))["state"] == "free"
    await farm.pass_time(HOUR + 1)
    again = await farm.taken()
    await farm.post(again, "release", outcome="broken")
    assert (await farm.seen(one(again)))["state"] == "quarantined"


@pytest.mark.parametrize(("counts", "failures"), [(False, 0), (True, 1)])
async def test_a_forced_lease_is_a_failure_where_the_policy_says_so(
    farm_of: FarmOf, counts: bool, failures: int
) -> None:
    farm = await farm_of(count_expired=counts)
    lease = await farm.taken()
    await farm.post(lease, "force_release", reason="stuck")
    assert (await farm.seen(one(lease)))["failures"] == failures


async def test_two_grants_of_one_user_are_a_gap_apart(farm_of: FarmOf) -> None:
    farm = await farm_of(login_gap=600)
    await farm.post(await farm.taken(), "release")
    told = problem(await farm.acquire(), 409, "pool-exhausted")
    assert 500 < told["next_free_in"] <= 600
    await farm.pass_time(601)
    await farm.taken()
