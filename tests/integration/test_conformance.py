"""The fake farm of the SDK and the real one answer alike, here about leases."""

import asyncio
from typing import Any

import pytest

from support.conformance import FarmOf, problem, user, users

LEASE_FIELDS = {
    "id", "fence", "project_id", "env", "domain", "owner", "metadata", "acquired_at", "expires_at", "expires_in",
    "ttl_seconds", "hold_until", "ended_at", "ended_by", "outcome", "users",
    "purpose", "reason", "note", "requested_at", "waited", "labels",
}  # fmt: skip
USER_FIELDS = {"id", "login", "project_id", "env", "domain", "locktime", "labels"}
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.usefixtures("code_clock")
async def test_a_lease_has_the_fields_of_the_contract(farm_of: FarmOf) -> None:
    rich = user(1, password="pw", labels={"plan": "paid"}, secrets={"pin": 1}, totp="123456")
    farm = await farm_of(rich, user(2, labels={"plan": "free"}))
    lease = await farm.taken(owner="job 7", metadata={"url": "https://ci.test/7"}, labels={"plan": "paid"})
    assert set(lease) == LEASE_FIELDS
    (held,) = lease["users"]
    assert set(held) == USER_FIELDS | {"password", "secrets", "totp"}
    assert (held["login"], held["password"], held["secrets"]) == ("user-1@shop.test", "pw", {"pin": 1})
    assert held["labels"] == {"plan": "paid"}
    assert (lease["owner"], lease["metadata"]) == ("job 7", {"url": "https://ci.test/7"})
    assert [lease[name] for name in ("ttl_seconds", "ended_at", "ended_by", "outcome")] == [
        60,
        None,
        None,
        None,
    ]
    assert 50 < lease["expires_in"] <= 60
    assert lease["acquired_at"] < lease["expires_at"] < lease["hold_until"]
    plain = await farm.taken(labels={"plan": "free"})
    assert set(plain["users"][0]) == USER_FIELDS | {"password"}
    assert plain["fence"] > lease["fence"]


async def test_all_or_nothing(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(3))
    assert len((await farm.taken(count=2))["users"]) == 2
    problem(await farm.acquire(count=2), 409, "pool-exhausted")
    assert len((await farm.taken(count=1))["users"]) == 1
    assert problem(await farm.acquire(count=4), 409, "pool-too-small")["total"] == 3


async def test_a_pool_is_a_project_an_env_a_domain_and_labels(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1), user(2, domain="canary", labels={"plan": "paid", "lang": "fr"}))
    assert (await farm.taken(domain="canary", labels={"lang": "fr"}))["users"][0][
        "login"
    ] == "user-2@shop.test"
    assert (await farm.taken())["users"][0]["login"] == "user-1@shop.test"
    problem(await farm.acquire(env="prod"), 404, "no-such-pool")
    problem(await farm.acquire(domain="canary", labels={"lang": "de"}), 404, "no-such-pool")
    problem(await farm.acquire(project="shpo"), 404, "no-such-project")


async def test_who_gets_none_learns_how_the_pool_stands(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    await farm.taken()
    second = await farm.taken()
    await farm.end_by_time(second["id"])
    answer = await farm.acquire()
    told = problem(answer, 409, "pool-exhausted")
    counts = [told[name] for name in ("total", "leased", "resting", "quarantined", "waiting")]
    assert counts == [2, 1, 1, 0, 0]
    assert 20 < told["next_free_in"] <= 30
    assert 20 < int(answer.headers["retry-after"]) <= 30


async def test_a_renewal_is_granted_what_the_policy_allows(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken(ttl_seconds=100)
    shorter = (await farm.post(lease, "renew", ttl_seconds=10)).json()
    assert shorter["expires_at"] == lease["expires_at"], "never shortens"
    longer = (await farm.post(lease, "renew", ttl_seconds=1000)).json()
    assert (longer["ttl_seconds"], longer["expires_in"] > 110) == (120, True)
    assert longer["users"][0]["password"] == lease["users"][0]["password"]


async def test_at_max_hold_a_renewal_changes_nothing(farm_of: FarmOf) -> None:
    farm = await farm_of(max_hold=50)
    lease = await farm.taken(ttl_seconds=100)
    assert lease["expires_at"] == lease["hold_until"]
    again = await farm.post(lease, "renew", ttl_seconds=100)
    assert (again.status_code, again.json()["expires_at"]) == (200, lease["expires_at"])


async def test_a_release_is_for_ever_and_once_more_is_the_same(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken()
    for outcome in ("broken", "ok"):
        released = await farm.post(lease, "release", outcome=outcome, note="why")
        assert released.status_code == 200
        assert (released.json()["ended_by"], released.json()["outcome"]) == ("released", "broken")
        assert released.json()["expires_in"] == 0
        assert "password" not in released.json()["users"][0]
    problem(await farm.post(lease, "renew"), 410, "lease-lapsed")
    assert (await farm.taken())["users"][0]["id"] == lease["users"][0]["id"]


async def test_what_time_has_ended_nobody_renews_releases_or_writes_to(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken()
    await farm.end_by_time(lease["id"])
    problem(await farm.post(lease, "renew"), 410, "lease-lapsed")
    problem(await farm.post(lease, "release"), 410, "lease-lapsed")
    path = f"/leases/{lease['id']}/users/{lease['users'][0]['id']}"
    problem(await farm.api.patch(path, json={"password": "new"}), 410, "lease-lapsed")
    problem(await farm.api.get(f"{path}/totp"), 410, "lease-lapsed")
    assert problem(await farm.acquire(), 409, "pool-exhausted")["resting"] == 1


async def test_what_an_operator_has_ended_is_over(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken()
    forced = (await farm.post(lease, "force_release", reason="stuck")).json()
    assert forced["ended_by"] == "forced"
    problem(await farm.post(lease, "renew"), 410, "lease-lapsed")
    problem(await farm.post(lease, "release"), 410, "lease-lapsed")
    assert problem(await farm.acquire(), 409, "pool-exhausted")["resting"] == 1


async def test_the_same_key_gets_the_same_lease(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    lease = await farm.taken("key", ttl_seconds=30)
    again = await farm.acquire("key", ttl_seconds=30, wait_seconds=5, priority=3)
    assert (again.status_code, again.json()["id"]) == (200, lease["id"])
    assert again.json()["users"][0]["password"] == lease["users"][0]["password"]
    problem(await farm.acquire("key", ttl_seconds=31), 422, "idempotency-key-reused")
    assert (await farm.taken("another"))["id"] != lease["id"]
    await farm.post(lease, "release")
    problem(await farm.acquire("key", ttl_seconds=30), 409, "idempotency-key-ended")


async def test_who_waits_gets_what_is_released(farm_of: FarmOf) -> None:
    farm = await farm_of()
    lease = await farm.taken()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(farm.acquire(wait_seconds=20))
        while problem(await farm.acquire(), 409, "pool-exhausted")["waiting"] < 1:
            await asyncio.sleep(0.01)
        await farm.post(lease, "release")
    assert waiting.result().status_code == 201
    assert waiting.result().json()["users"][0]["id"] == lease["users"][0]["id"]


async def test_a_wait_that_is_over_says_how_long_it_was(farm_of: FarmOf) -> None:
    farm = await farm_of()
    await farm.taken()
    assert 0.9 < problem(await farm.acquire(wait_seconds=1), 409, "pool-exhausted")["waited"] < 15


async def test_who_does_not_wait_does_not_overtake_who_does(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(2))
    await farm.taken()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(farm.acquire(count=2, wait_seconds=2))
        while (answer := await farm.acquire()).status_code == 201:
            await farm.post(answer.json(), "release")
            await asyncio.sleep(0.01)
        assert problem(answer, 409, "pool-exhausted")["waiting"] == 1
    problem(waiting.result(), 409, "pool-exhausted")


async def test_hand_outs_go_round(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(3))
    seen = []
    for _ in range(3):
        lease = await farm.taken()
        seen.append(lease["users"][0]["id"])
        await farm.post(lease, "release")
    assert len(set(seen)) == 3


@pytest.mark.usefixtures("code_clock")
async def test_the_holder_sees_the_credentials_while_it_is_one(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1, totp="123456"), user(2, domain="canary"))
    lease = await farm.taken()
    read = (await farm.api.get(f"/leases/{lease['id']}")).json()
    assert read["users"][0]["password"] == lease["users"][0]["password"]
    renewed = (await farm.post(lease, "renew")).json()
    assert "totp" not in {**read["users"][0], **renewed["users"][0]}
    path = f"/leases/{lease['id']}/users"
    code = (await farm.api.get(f"{path}/{lease['users'][0]['id']}/totp")).json()
    assert (len(code["code"]), 0 < code["expires_in"] <= 30) == (6, True)
    plain = await farm.taken(domain="canary")
    problem(
        await farm.api.get(f"/leases/{plain['id']}/users/{plain['users'][0]['id']}/totp"), 404, "no-such-user"
    )
    problem(await farm.api.get(f"{path}/{NOBODY}/totp"), 404, "no-such-user")
    await farm.post(lease, "release")
    assert "password" not in (await farm.api.get(f"/leases/{lease['id']}")).json()["users"][0]
    problem(await farm.api.get(f"/leases/{NOBODY}"), 404, "no-such-lease")


async def test_what_is_written_back_is_there_for_the_next_holder(farm_of: FarmOf) -> None:
    farm = await farm_of(user(1, secrets={"pin": 1, "old": True}))
    lease = await farm.taken()
    path = f"/leases/{lease['id']}/users/{lease['users'][0]['id']}"
    written = await farm.api.patch(path, json={"password": "new", "secrets": {"old": None, "state": {}}})
    assert (written.status_code, written.json()["password"]) == (200, "new")
    await farm.post(lease, "release")
    (held,) = (await farm.taken())["users"]
    assert (held["password"], held["secrets"]) == ("new", {"pin": 1, "state": {}})


async def test_a_token_holds_no_more_than_its_quota(farm_of: FarmOf) -> None:
    farm = await farm_of(*users(3), max_leases=2)
    lease = await farm.taken(count=1)
    told = problem(await farm.acquire(count=2), 429, "quota-exceeded")
    assert (told["held"], told["count"], told["max_leases"]) == (1, 2, 2)
    await farm.post(lease, "release")
    await farm.taken(count=2)


async def test_what_does_not_fit_is_refused(farm_of: FarmOf) -> None:
    farm = await farm_of()
    wrong: list[dict[str, Any]] = [
        {"count": 0}, {"count": 101}, {"ttl_seconds": 0}, {"ttl_seconds": 86_401}, {"wait_seconds": 301},
        {"priority": 11}, {"env": "Stage"}, {"domain": "re gular"}, {"project_id": NOBODY}, {"surprise": 1},
    ]  # fmt: skip
    for wanted in wrong:
        (error,) = problem(await farm.acquire(**wanted), 422, "invalid-request")["errors"]
        assert set(error) == {"field", "code", "message"}
        assert error["field"] in {*wanted, "project"}


async def test_strangers_are_refused(farm_of: FarmOf) -> None:
    farm = await farm_of()
    farm.api.headers["Authorization"] = "Bearer stranger"
    problem(await farm.acquire(), 401, "unauthenticated")
