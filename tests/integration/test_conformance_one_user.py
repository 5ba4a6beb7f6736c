"""The fake farm of the SDK and the real one answer alike, here about one user by its login, and choices of labels."""

import asyncio
from typing import Any

import pytest

from support.conformance import FarmOf, Subject, in_seconds, problem, user, users, wrong_fields


def logins(lease: dict[str, Any]) -> list[str]:
    return [each["login"] for each in lease["users"]]


async def until_waiting(farm: Subject, **wanted: str) -> None:
    """Until a request waits. The farm tells others that get no user."""
    while not problem(await farm.acquire(**wanted), 409, "pool-exhausted")["waiting"]:
        await asyncio.sleep(0.01)


async def ids(farm: Subject, count: int) -> dict[str, str]:
    """The ids of so many users by their logins."""
    lease = await farm.taken(count=count)
    await farm.post(lease, "release")
    return {each["login"]: each["id"] for each in lease["users"]}


async def test_one_user_is_taken_by_its_login_whatever_its_domain_and_the_case(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1), user(2, domain="canary", labels={"plan": "paid"}), user(3))
    lease = await farm.taken(user="USER-2@Shop.test")
    assert (logins(lease), lease["domain"], lease["labels"]) == (["user-2@shop.test"], "canary", {})
    told = problem(await farm.acquire(user="user-2@shop.test"), 409, "pool-exhausted")
    assert (told["total"], told["leased"], told["waiting"]) == (1, 1, 0)
    assert 60 < told["next_free_in"] <= 90
    assert sorted(logins(await farm.taken(count=2))) == ["user-1@shop.test", "user-3@shop.test"]


async def test_one_user_is_waited_for(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken(user="user-1@shop.test")
    waiting = asyncio.create_task(farm.taken(user="user-1@shop.test", wait_seconds=20))
    await until_waiting(farm, user="user-1@shop.test")
    assert logins(await farm.taken()) == ["user-0@shop.test"], "nobody waits for this one"
    await farm.post(lease, "release")
    assert logins(await waiting) == ["user-1@shop.test"]
    over = await farm.acquire(user="user-1@shop.test", wait_seconds=1)
    assert problem(over, 409, "pool-exhausted")["waited"] >= 1


async def test_a_login_that_nobody_has_is_no_busy_user(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1), user(2, env="prod"))
    for wanted in ("nobody@shop.test", "user-2@shop.test", "not a login", "%", "\u0130"):
        problem(await farm.acquire(user=wanted, wait_seconds=20), 404, "no-such-user")
    problem(await farm.acquire(user="user-1@shop.test", project="shpo"), 404, "no-such-project")


@pytest.mark.parametrize("wait", [0, 20])
async def test_a_user_that_is_out_of_service_is_refused_with_the_reason(farm_of: FarmOf, wait: int) -> None:
    farm = await farm_of(user(1), user(2))
    known = await ids(farm, 2)
    await farm.change(known["user-1@shop.test"], "quarantine", reason="captcha")
    await farm.change(known["user-2@shop.test"], "retire", reason="gone")
    told = problem(await farm.acquire(user="user-1@shop.test", wait_seconds=wait), 409, "user-quarantined")
    assert told["status_reason"] == "captcha"
    problem(await farm.acquire(user="user-2@shop.test", wait_seconds=wait), 409, "user-retired")


async def test_a_quarantine_is_waited_out_if_it_ends_in_time(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1))
    ((login, user_id),) = (await ids(farm, 1)).items()
    await farm.change(user_id, "quarantine", reason="captcha", until=in_seconds(3))
    problem(await farm.acquire(user=login, wait_seconds=1), 409, "user-quarantined")
    assert logins(await farm.taken(user=login, wait_seconds=20)) == [login]


async def test_a_dirty_user_is_waited_for_as_a_keeper_may_clean_it(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1), cleaning="on_dirty")
    await farm.post(await farm.taken(), "release", outcome="dirty")
    problem(await farm.acquire(user="user-1@shop.test"), 409, "user-dirty")
    told = problem(await farm.acquire(user="user-1@shop.test", wait_seconds=1), 409, "pool-exhausted")
    assert (told["total"], told["dirty"], told["next_free_in"]) == (1, 1, None)
    waiting = asyncio.create_task(farm.taken(user="user-1@shop.test", wait_seconds=20))
    await until_waiting(farm)
    await farm.post(await farm.chore(), "release")
    assert logins(await waiting) == ["user-1@shop.test"]


async def test_under_a_key_one_user_is_the_same_request_however_its_login_is_typed(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken("key", user="user-1@shop.test")
    again = await farm.acquire("key", user="user-1@shop.test", wait_seconds=5)
    assert (again.status_code, again.json()["id"]) == (200, lease["id"])
    problem(await farm.acquire("key", user="user-0@shop.test"), 422, "idempotency-key-reused")
    problem(await farm.acquire("key"), 422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("wanted", "fields"),
    [
        ({"count": 2}, ["count"]),
        ({"labels": {"plan": "paid"}}, ["labels"]),
        ({"purpose": "chore"}, ["user"]),
        ({"purpose": "hold"}, ["user"]),
    ],
)
async def test_what_does_not_go_with_one_user_is_refused(
    farm_of: FarmOf, wanted: dict[str, Any], fields: list[str]
) -> None:
    farm = await farm_of()
    assert wrong_fields(await farm.acquire(user="user-1@shop.test", **wanted)) == fields


async def test_labels_are_one_value_one_of_several_or_absent(farm_of: FarmOf) -> None:
    farm = await farm_of(
        user(1, labels={"plan": "paid", "legacy": "1"}),
        user(2, labels={"plan": "trial"}),
        user(3, labels={"plan": "free"}),
        user(4),
    )
    wanted = {"plan": ["trial", "paid"], "legacy": None}
    lease = await farm.taken("key", labels=wanted)
    assert logins(lease) == ["user-2@shop.test"]
    assert lease["labels"] == {"plan": ["paid", "trial"], "legacy": None}
    shown = (await farm.api.get(f"/leases/{lease['id']}")).json()
    assert shown["labels"] == lease["labels"]
    again = await farm.acquire("key", labels={"legacy": None, "plan": ["paid", "trial", "paid"]})
    assert (again.status_code, again.json()["id"]) == (200, lease["id"]), "the same request"
    assert problem(await farm.acquire(labels=wanted), 409, "pool-exhausted")["total"] == 1
    assert logins(await farm.taken(labels={"plan": None})) == ["user-4@shop.test"]
    assert logins(await farm.taken(labels={"plan": ["paid"]})) == ["user-1@shop.test"]
    problem(await farm.acquire(labels={"plan": ["gold", "silver"]}), 404, "no-such-pool")
    problem(await farm.acquire(labels={"plan": ["paid", "free"]}, count=3), 409, "pool-too-small")


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ({"plan": []}, "labels"),
        ({"plan": 1}, "labels.plan"),
        ({"plan": ["paid", 1]}, "labels.plan"),
        ({"plan": ["paid", None]}, "labels.plan"),
        ({"plan": {"in": ["paid"]}}, "labels.plan"),
        ("plan=paid", "labels"),
    ],
)
async def test_labels_that_are_none_of_these_are_refused(farm_of: FarmOf, labels: Any, field: str) -> None:
    farm = await farm_of()
    assert wrong_fields(await farm.acquire(labels=labels)) == [field]
