"""One-time codes: none is given twice, and none too late to type it."""

import asyncio
import hashlib
from typing import Any
from uuid import UUID

import httpx
import pyotp
import pytest

from botfarm.crypto.key_ring import KeyRing
from botfarm.services.stock.sealing import seal_totp_seed
from support.app import api_client
from support.code_clock import CodeClock
from support.farm import KEYS, PASSWORD, Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user

SEED = "JBSWY3DPEHPK3PXP"
ADDRESS = f"otpauth://totp/Shop:me?secret={SEED}&issuer=Shop&algorithm=SHA256&digits=8&period=60"
Json = dict[str, Any]


async def farm_with_a_code(api: httpx.AsyncClient, seed: str = SEED) -> Json:
    return await create_user(api, await create_project(api), totp_seed=seed)


async def take(api: httpx.AsyncClient, **headers: str) -> Json:
    answer = await api.post("/leases", json=LEASE, headers=headers)
    assert answer.is_success, answer.text
    return dict(answer.json())


def path_of(lease: Json) -> str:
    return f"/leases/{lease['id']}/users/{lease['users'][0]['id']}/totp"


async def ask(api: httpx.AsyncClient, lease: Json, **params: float) -> Json:
    answer = await api.get(path_of(lease), params=params)
    assert answer.is_success, answer.text
    return dict(answer.json())


class Expected(pyotp.TOTP):
    min_secret_length_bits = 8


@pytest.mark.parametrize("seed", [SEED, SEED.lower(), "JBSW Y3DP EHPK 3PXP", ADDRESS])
async def test_a_code_is_the_one_that_the_system_under_test_expects(
    api: httpx.AsyncClient, code_clock: CodeClock, seed: str
) -> None:
    await farm_with_a_code(api, seed)
    of_address = {"digits": 8, "interval": 60, "digest": hashlib.sha256}
    expected = Expected(SEED, **(of_address if seed == ADDRESS else {}))
    lease = await take(api)
    code = lease["users"][0]["totp"]
    assert (code["code"], code["expires_in"]) == (expected.at(int(code_clock.now)), expected.interval)
    code_clock.now += expected.interval
    answer = await api.get(path_of(lease))
    assert answer.json()["code"] == expected.at(int(code_clock.now))
    assert answer.headers["cache-control"] == "no-store"


async def test_no_two_answers_give_the_same_code(api: httpx.AsyncClient, code_clock: CodeClock) -> None:
    await farm_with_a_code(api)
    first = await take(api)
    codes = [first["users"][0]["totp"]["code"], (await ask(api, first))["code"]]
    await api.post(f"/leases/{first['id']}/release")
    second = await take(api)
    assert "totp" not in second["users"][0]
    codes.append((await ask(api, second))["code"])
    assert len(set(codes)) == 3
    assert code_clock.pauses == [30, 30]


async def test_answers_that_nobody_asked_a_code_of_give_none(
    api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    await farm_with_a_code(api)
    lease = await take(api, **{"Idempotency-Key": "again"})
    code_clock.now += 30
    path = f"/leases/{lease['id']}"
    for answer in (await api.post(f"{path}/renew"), await api.get(path)):
        assert answer.json()["users"][0]["password"] == PASSWORD
        assert "totp" not in answer.json()["users"][0]
    assert code_clock.pauses == []


async def test_a_retried_acquire_gives_the_code_of_its_own_moment_or_none(
    api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    await farm_with_a_code(api)
    lost = await take(api, **{"Idempotency-Key": "again"})
    again = await take(api, **{"Idempotency-Key": "again"})
    assert (again["id"], "totp" in again["users"][0]) == (lost["id"], False)
    code_clock.now += 30
    later = await take(api, **{"Idempotency-Key": "again"})
    assert later["users"][0]["totp"]["code"] != lost["users"][0]["totp"]["code"]


@pytest.mark.parametrize(
    ("left", "good_for", "pause"), [(5, 0, None), (4.9, 0, 4.9), (12, 12, None), (12, 13, 12), (19, 20, 19)]
)
async def test_a_code_is_good_for_as_long_as_was_asked_and_for_five_seconds_at_least(
    api: httpx.AsyncClient, code_clock: CodeClock, left: float, good_for: float, pause: float | None
) -> None:
    await farm_with_a_code(api)
    lease = await take(api)
    code_clock.now += 30
    code_clock.left(left)
    code = await ask(api, lease, good_for=good_for)
    assert code["expires_in"] == pytest.approx(30 if pause else left, abs=0.01)
    assert code_clock.pauses == ([pytest.approx(pause, abs=0.01)] if pause else [])


async def test_a_lease_has_no_code_that_ends_within_five_seconds(
    api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    await farm_with_a_code(api)
    code_clock.left(4)
    assert "totp" not in (await take(api))["users"][0]


async def test_two_that_ask_at_the_same_moment_get_two_codes(
    api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    await farm_with_a_code(api)
    lease = await take(api)
    code_clock.now += 30
    codes = await asyncio.gather(ask(api, lease), ask(api, lease))
    assert codes[0]["code"] != codes[1]["code"]
    assert code_clock.pauses == [30]


async def test_two_replicas_with_different_clocks_never_give_one_code_twice(
    api: httpx.AsyncClient, code_clock: CodeClock, database_url: str
) -> None:
    await farm_with_a_code(api)
    lease = await take(api)
    code_clock.now += 30
    ahead = await ask(api, lease)
    code_clock.now -= 2
    async with api_client(test_settings(database_url)) as behind:
        refused = await behind.get(path_of(lease))
        assert_problem(refused, 429, "slow-down")
        code_clock.now += int(refused.headers["retry-after"])
        code = await ask(behind, lease)
    assert code["code"] not in {ahead["code"], lease["users"][0]["totp"]["code"]}


async def test_a_code_that_is_far_away_is_refused_with_the_time_to_come_again(
    api: httpx.AsyncClient, code_clock: CodeClock
) -> None:
    await farm_with_a_code(api, ADDRESS)
    lease = await take(api)
    code_clock.now += 9
    answer = await api.get(path_of(lease))
    assert_problem(answer, 429, "slow-down")
    assert (answer.headers["retry-after"], code_clock.pauses) == ("51", [])


@pytest.mark.parametrize("period", [1, 2, 5])
async def test_a_short_period_gives_a_code_that_has_just_begun(
    api: httpx.AsyncClient, code_clock: CodeClock, period: int
) -> None:
    await farm_with_a_code(api, f"otpauth://totp/x?secret={SEED}&period={period}")
    lease = await take(api)
    assert (await ask(api, lease, good_for=20))["expires_in"] == period
    assert code_clock.pauses == [period]


async def test_a_lease_that_ends_during_the_wait_gives_no_code(
    api: httpx.AsyncClient, farm: Farm, code_clock: CodeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await farm_with_a_code(api)
    lease = await take(api)

    async def end_it(_: float) -> None:
        await farm.expire(UUID(lease["id"]))

    monkeypatch.setattr(code_clock, "pause", end_it)
    assert_problem(await api.get(path_of(lease)), 410, "lease-lapsed")


@pytest.mark.parametrize("good_for", ["-1", "20.5", "long", "nan"])
async def test_more_than_twenty_seconds_cannot_be_asked_for(api: httpx.AsyncClient, good_for: str) -> None:
    await farm_with_a_code(api)
    answer = await api.get(path_of(await take(api)), params={"good_for": good_for})
    (error,) = assert_problem(answer, 422, "invalid-request")["errors"]
    assert error["field"] == "good_for"


@pytest.mark.parametrize(
    "seed", ["", "not base32!", "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=1", "otpauth://totp/x", "1"]
)
async def test_a_seed_that_gives_no_code_is_refused_without_showing_it(
    api: httpx.AsyncClient, seed: str
) -> None:
    project = await create_project(api)
    body = {
        "login": "a@shop.test",
        "password": PASSWORD,
        "project_id": project,
        "env": "stage",
        "domain": "regular",
    }
    problem = assert_problem(
        await api.post("/users", json={**body, "totp_seed": seed}), 422, "invalid-request"
    )
    assert problem["errors"][0]["field"] == "totp_seed"


async def test_a_parameter_that_would_change_the_codes_is_named(api: httpx.AsyncClient) -> None:
    project = await create_project(api)
    user = await create_user(api, project)
    answer = await api.patch(f"/users/{user['id']}", json={"totp_seed": f"{ADDRESS}&encoder=steam"})
    (error,) = assert_problem(answer, 422, "invalid-request")["errors"]
    assert (error["field"], error["code"]) == ("totp_seed", "invalid")
    assert "`encoder`" in error["message"]
    assert SEED not in answer.text


async def test_a_stored_seed_of_which_codes_would_be_wrong_gives_none(
    api: httpx.AsyncClient, farm: Farm
) -> None:
    """An earlier version accepted this seed."""
    key_ring = KeyRing.parse(KEYS)
    project = await create_project(api)
    user = await create_user(api, project, totp_seed=SEED)
    seed = seal_totp_seed(key_ring, UUID(user["id"]), f"{ADDRESS}&encoder=steam")
    await farm.sql.execute("UPDATE users SET totp_seed = $2 WHERE id = $1", user["id"], seed)
    lease = (await api.post("/leases", json=LEASE)).json()
    assert "totp" not in lease["users"][0]
    answer = await api.get(f"/leases/{lease['id']}/users/{user['id']}/totp")
    assert "set again" in assert_problem(answer, 404, "no-such-user")["detail"]
