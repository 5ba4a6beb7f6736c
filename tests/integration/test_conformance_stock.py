"""The fake farm of the SDK and the real one answer alike, here about users: verdicts, statuses, bulk, holds."""

from typing import Any

import pytest

from support.conformance import FarmOf, Subject, in_seconds, problem, user, users, wrong_fields

NOBODY = "00000000-0000-4000-8000-000000000000"
USER_FIELDS = {
    "id", "created_at", "login", "project_id", "env", "domain", "state", "locktime", "expires_at", "available_at",
    "lease_id", "labels", "status", "status_reason", "status_since", "status_by", "status_until", "health",
    "health_reason", "checked_at", "healthy_at", "failures", "rotated_at", "is_rotating", "session_expires_at",
    "has_secrets", "has_totp", "managed_by",
}  # fmt: skip


async def ids_of(farm: Subject, count: int) -> list[str]:
    """The ids of so many users, which are free again."""
    lease = await farm.taken(count=count)
    await farm.post(lease, "release")
    return [each["id"] for each in lease["users"]]


async def states(farm: Subject, ids: list[str]) -> list[str]:
    return [(await farm.seen(each))["state"] for each in ids]


async def test_what_is_said_of_one_user_overrides_what_is_said_of_all(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken(count=2)
    first, second = (each["id"] for each in lease["users"])
    apart = [{"id": second, "outcome": "broken", "reason": "captcha", "note": "a picture"}]
    released = (await farm.post(lease, "release", outcome="dirty", reason="data", users=apart)).json()
    said = {
        each["id"]: [each.get(name) for name in ("outcome", "reason", "note")] for each in released["users"]
    }
    assert said == {first: ["dirty", "data", None], second: ["broken", "captcha", "a picture"]}
    assert [released[name] for name in ("outcome", "reason", "note")] == ["dirty", "data", None]
    assert [(await farm.seen(each))["failures"] for each in (first, second)] == [0, 1]


async def test_a_verdict_that_does_not_fit_releases_nothing(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken()
    one = {"id": lease["users"][0]["id"]}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"outcome": "gone"}, "outcome"),
        ({"outcome": "broken", "reason": "moon"}, "reason"),
        ({"reason": "captcha"}, "reason"),
        ({"users": [one, one]}, "users"),
        ({"users": [{**one, "outcome": "gone"}]}, "users.0.outcome"),
        ({"users": [one, {"id": NOBODY}]}, "users.1.id"),
    ]
    for body, field in wrong:
        assert wrong_fields(await farm.post(lease, "release", **body)) == [field]
    assert (await farm.api.get(f"/leases/{lease['id']}")).json()["ended_at"] is None


async def test_a_user_has_the_fields_of_the_contract(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1, labels={"plan": "paid"}, totp="123456"))
    lease = await farm.taken(owner="job 7")
    seen = await farm.seen(lease["users"][0]["id"])
    last = seen.pop("last_lease")
    assert set(seen) == USER_FIELDS
    assert (seen["state"], seen["status"], seen["health"], seen["failures"]) == (
        "leased",
        "active",
        "unknown",
        0,
    )
    assert (seen["lease_id"], last["id"], last["owner"]) == (lease["id"], lease["id"], "job 7")
    assert (seen["has_secrets"], seen["has_totp"], seen["is_rotating"]) == (False, True, False)
    problem(await farm.api.get(f"/users/{NOBODY}"), 404, "no-such-user")


async def test_a_quarantined_user_is_not_had_until_it_is_restored(farm_of: FarmOf) -> None:
    farm = await farm_of()
    (one,) = await ids_of(farm, 1)
    quarantined = (await farm.change(one, "quarantine", reason="looks odd")).json()
    assert set(quarantined) == USER_FIELDS
    assert (quarantined["state"], quarantined["status_reason"]) == ("quarantined", "looks odd")
    told = await farm.acquire()
    assert problem(told, 409, "pool-exhausted")["quarantined"] == 1
    assert (told.json()["next_free_in"], told.headers["retry-after"]) == (None, "60")
    restored = (await farm.change(one, "restore", note="mended")).json()
    assert [restored[name] for name in ("state", "status_reason", "status_since", "status_by")] == [
        "free", None, None, None,
    ]  # fmt: skip
    await farm.taken()


async def test_a_leased_user_is_quarantined_from_its_release_on(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken()
    one = lease["users"][0]["id"]
    await farm.change(one, "quarantine", reason="looks odd")
    problem(await farm.api.post("/leases", json={"purpose": "hold", "user_id": one}), 409, "user-busy")
    assert (await farm.post(lease, "renew")).status_code == 200
    await farm.post(lease, "release")
    assert (await farm.seen(one))["status"] == "quarantined"
    problem(await farm.acquire(), 409, "pool-exhausted")


@pytest.mark.parametrize(("cleaning", "status"), [("off", "active"), ("required", "dirty")])
async def test_a_quarantine_ends_by_its_time(farm_of: FarmOf, cleaning: str, status: str) -> None:
    farm = await farm_of(cleaning=cleaning)
    one = (await farm.taken())["users"][0]["id"]
    await farm.change(one, "quarantine", reason="blocked", until=in_seconds(250))
    await farm.pass_time(100)
    told = problem(await farm.acquire(), 409, "pool-exhausted")
    assert (told["next_free_in"] is None) == (cleaning == "required")
    assert cleaning == "required" or 120 < told["next_free_in"] <= 150
    await farm.pass_time(160)
    seen = await farm.seen(one)
    assert (seen["status"], seen["status_until"]) == (status, None)


async def test_a_retired_user_stays_retired(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    first, second = await ids_of(farm, 2)
    retired = (await farm.change(first, "retire", reason="the tenant is gone")).json()
    assert (retired["state"], retired["status_reason"]) == ("retired", "the tenant is gone")
    problem(await farm.change(first, "quarantine", reason="why"), 409, "user-retired")
    problem(await farm.change(first, "restore"), 409, "user-retired")
    assert problem(await farm.acquire(count=2), 409, "pool-too-small")["total"] == 1
    await farm.change(second, "retire", reason="the tenant is gone")
    problem(await farm.acquire(), 404, "no-such-pool")


async def test_a_change_by_hand_that_does_not_fit_is_refused(farm_of: FarmOf) -> None:
    farm = await farm_of()
    (one,) = await ids_of(farm, 1)
    for action in ("quarantine", "retire"):
        assert wrong_fields(await farm.change(one, action)) == ["reason"]
        problem(await farm.change(NOBODY, action, reason="why"), 404, "no-such-user")
    assert wrong_fields(await farm.change(one, "restore", surprise=1)) == ["surprise"]
    problem(await farm.change(NOBODY, "restore"), 404, "no-such-user")


async def test_many_users_are_changed_by_a_filter_or_by_their_ids(farm_of: FarmOf) -> None:
    farm = await farm_of(*(user(n, labels={"tenant": "a" if n else "b"}) for n in range(3)))
    ids = await ids_of(farm, 3)
    wanted = {"action": "quarantine", "filter": {"labels": {"tenant": "a"}}, "reason": "a moves"}
    dry = await farm.api.post("/users/bulk", json={**wanted, "dry_run": True})
    assert (dry.status_code, dry.json()) == (200, {"matched": 2, "done": 2, "replaced": 0, "failed": []})
    assert await states(farm, ids) == ["free"] * 3
    done = await farm.api.post("/users/bulk", json=wanted)
    assert done.json() == {"matched": 2, "done": 2, "replaced": 0, "failed": []}
    assert sorted(await states(farm, ids)) == ["free", "quarantined", "quarantined"]
    restore = {"action": "restore", "filter": {"state": "quarantined"}}
    assert (await farm.api.post("/users/bulk", json=restore)).json()["done"] == 2
    assert (await farm.api.post("/users/bulk", json=restore)).json() == {
        "matched": 0,
        "done": 0,
        "replaced": 0,
        "failed": [],
    }
    named = {"action": "retire", "ids": [ids[0], NOBODY], "reason": "gone"}
    told = (await farm.api.post("/users/bulk", json=named)).json()
    missing = {"id": NOBODY, "login": None, "problem": "no-such-user"}
    assert told == {"matched": 1, "done": 1, "replaced": 0, "failed": [missing]}
    assert (await farm.api.post("/users/bulk", json=named)).json()["replaced"] == 1
    again = {"action": "quarantine", "ids": ids, "reason": "all"}
    login = (await farm.api.get(f"/users/{ids[0]}")).json()["login"]
    retired = {"id": ids[0], "login": login, "problem": "user-retired"}
    for replaced in (0, 2):
        told = (await farm.api.post("/users/bulk", json=again)).json()
        assert told == {"matched": 3, "done": 2, "replaced": replaced, "failed": [retired]}


async def test_a_leased_user_is_labelled_and_not_deleted(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken()
    everything = {"filter": {"all": True}}
    labelled = await farm.api.post(
        "/users/bulk", json={"action": "label", "labels": {"plan": "paid"}, **everything}
    )
    assert labelled.json()["done"] == 2
    deleted = (await farm.api.post("/users/bulk", json={"action": "delete", **everything})).json()
    held = lease["users"][0]["id"]
    busy = {"id": held, "login": lease["users"][0]["login"], "problem": "user-busy"}
    assert deleted == {"matched": 2, "done": 1, "replaced": 0, "failed": [busy]}
    await farm.post(lease, "release")
    assert (await farm.taken(labels={"plan": "paid"}))["users"][0]["id"] == held


async def test_a_bulk_change_that_does_not_fit_changes_nothing(farm_of: FarmOf) -> None:
    farm = await farm_of()
    (one,) = await ids_of(farm, 1)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"action": "party", "ids": [one]}, "action"),
        ({"action": "restore"}, "filter"),
        ({"action": "delete", "filter": {}}, "filter.all"),
        ({"action": "delete", "filter": {"all": True}, "ids": [one]}, "ids"),
        ({"action": "quarantine", "ids": [one]}, "reason"),
        ({"action": "label", "ids": [one]}, "labels"),
        ({"action": "delete", "ids": [one], "labels": {"plan": "paid"}}, "labels"),
        ({"action": "delete", "filter": {"state": "asleep"}}, "filter.state"),
    ]
    for body, field in wrong:
        assert field in wrong_fields(await farm.api.post("/users/bulk", json=body)), body
    assert await states(farm, [one]) == ["free"]


async def test_a_person_holds_a_user_that_no_test_gets(farm_of: FarmOf) -> None:
    farm = await farm_of()
    (one,) = await ids_of(farm, 1)
    await farm.change(one, "quarantine", reason="looks odd")
    hold = {"purpose": "hold", "user_id": one, "note": "a look at the cart"}
    held = (await farm.api.post("/leases", json=hold)).json()
    assert (held["purpose"], held["note"], held["ttl_seconds"]) == ("hold", "a look at the cart", 200)
    assert held["users"][0]["password"]
    assert await states(farm, [one]) == ["held"]
    problem(await farm.api.post("/leases", json=hold), 409, "user-busy")
    assert (await farm.post(held, "release")).json()["note"] == "a look at the cart"
    assert await states(farm, [one]) == ["quarantined"]
    held = (await farm.api.post("/leases", json=hold)).json()
    await farm.change(one, "retire", reason="gone")
    assert await states(farm, [one]) == ["retired"]
    await farm.post(held, "release")
    problem(await farm.api.post("/leases", json=hold), 409, "user-retired")
    problem(await farm.api.post("/leases", json={**hold, "user_id": NOBODY}), 404, "no-such-user")


async def test_a_hold_of_the_pool_counts_as_a_test(farm_of: FarmOf) -> None:
    farm = await farm_of(cleaning="required")
    held = await farm.taken(purpose="hold", ttl_seconds=150)
    assert (held["ttl_seconds"], (await farm.post(held, "renew")).status_code) == (150, 200)
    await farm.post(held, "release")
    assert await states(farm, [held["users"][0]["id"]]) == ["dirty"]
    problem(await farm.acquire(purpose="hold"), 409, "pool-exhausted")


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"user_id": NOBODY}, "user_id"),
        ({"note": "why"}, "note"),
        ({"purpose": "hold", "wait_seconds": 5}, "wait_seconds"),
        ({"purpose": "hold", "user_id": NOBODY}, "project"),
        ({"purpose": "party"}, "purpose"),
        ({"env": None}, "env"),
    ],
)
async def test_a_request_that_does_not_fit_its_purpose_is_refused(
    farm_of: FarmOf, wanted: dict[str, Any], field: str
) -> None:
    assert wrong_fields(await (await farm_of()).acquire(**wanted)) == [field]
