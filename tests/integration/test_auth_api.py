"""Signing in and out over HTTP."""

import asyncio
from http.cookiejar import DefaultCookiePolicy
from http.cookies import Morsel, SimpleCookie
from typing import Any

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role, Scope
from botfarm.errors import ShuttingDownError
from support.app import api_client, on_a_socket
from support.farm import PASSWORD, Farm, open_farm, test_settings
from support.http import assert_problem

NAME = "__Host-botfarm"
SIGN_IN = {"name": "Ann", "password": PASSWORD}


@pytest.fixture
async def ann(farm: Farm) -> None:
    await farm.services.operators.add("Ann", PASSWORD, Role.MANAGER, EVERYTHING)


@pytest.fixture
async def anonymous(api: httpx.AsyncClient) -> httpx.AsyncClient:
    del api.headers["authorization"]
    return api


def cookie_of(answer: httpx.Response) -> Morsel[str]:
    (morsel,) = SimpleCookie(answer.headers["set-cookie"]).values()
    return morsel


@pytest.mark.usefixtures("ann")
async def test_sign_in_gives_a_cookie_and_its_lifetime(farm: Farm, anonymous: httpx.AsyncClient) -> None:
    answer = await anonymous.post("/auth/login", json=SIGN_IN)
    assert answer.status_code == 200, answer.text
    ends = await farm.sql.fetchval("SELECT expires_at FROM sessions")
    assert answer.json() == {
        "name": "Ann",
        "role": "manager",
        "projects": ["*"],
        "envs": ["*"],
        "expires_at": ends.isoformat().replace("+00:00", "Z"),
    }
    cookie = cookie_of(answer)
    assert cookie.key == NAME
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (
        True,
        True,
        "strict",
        "/",
    )
    assert not cookie["domain"]
    assert 12 * 3600 - 60 < int(cookie["max-age"]) <= 12 * 3600
    assert cookie.value not in answer.text
    principal, _ = await farm.services.sessions.authenticate(cookie.value)
    assert principal.name == "operator:Ann"


async def test_a_scope_is_answered_with_ids(farm: Farm, anonymous: httpx.AsyncClient) -> None:
    project = await farm.project()
    scope = Scope(frozenset({project.id}), frozenset({"stage", "prod"}))
    await farm.services.operators.add("bob", PASSWORD, Role.VIEWER, scope)
    said = (await anonymous.post("/auth/login", json={"name": "bob", "password": PASSWORD})).json()
    assert (said["projects"], said["envs"]) == ([str(project.id)], ["prod", "stage"])


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize(
    "body", [{"name": "Ann", "password": "wrong"}, {"name": "nobody", "password": PASSWORD}]
)
async def test_a_failed_sign_in_does_not_say_what_was_wrong(
    anonymous: httpx.AsyncClient, body: dict[str, str]
) -> None:
    problem = assert_problem(await anonymous.post("/auth/login", json=body), 401, "unauthenticated")
    assert problem["detail"] == "The name or the password is wrong."


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "canary"},
        {"name": "", "password": "canary"},
        {"name": "canary" * 60, "password": "canary"},
        {"name": "canary\0", "password": "canary"},
        {"name": "ann", "password": "canary" * 200},
        {"name": "ann", "password": "canary", "remember": "canary"},
        {"name": ["canary"], "password": {"canary": 1}},
    ],
)
async def test_a_body_that_does_not_fit_is_not_echoed(
    anonymous: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    answer = await anonymous.post("/auth/login", json=body)
    assert_problem(answer, 422, "invalid-request")
    assert "canary" not in answer.text


async def test_a_crowd_is_told_when_to_come_back(
    anonymous: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.access.passwords.MAX_WAITING", -2)
    answer = await anonymous.post("/auth/login", json=SIGN_IN)
    assert_problem(answer, 429, "slow-down")
    assert answer.headers["retry-after"] == "1"


@pytest.mark.usefixtures("ann")
async def test_guesses_at_once_from_one_address_are_refused_and_others_get_in(
    farm: Farm, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.access.login_throttle.LONGEST_QUEUE", 1.0)
    settings = test_settings(database_url, trusted_proxies="127.0.0.1")
    async with on_a_socket(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        attacker, person = ({"X-Forwarded-For": address} for address in ("192.0.2.66", "192.0.2.1"))
        guess = {"name": "someone", "password": "wrong"}

        attacks = [client.post("/api/v1/auth/login", json=guess, headers=attacker) for _ in range(15)]
        answers = await asyncio.gather(*attacks)
        assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 10
        for refused in (answer for answer in answers if answer.status_code == 429):
            assert_problem(refused, 429, "slow-down")
            assert refused.headers["retry-after"] == "1"
        allowed = await client.post("/api/v1/auth/login", json=SIGN_IN, headers=person)
        assert allowed.status_code == 200
    assert await farm.sql.fetchval("SELECT address FROM audit WHERE action = 'login'") == "192.0.2.1"


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7", "172.18.0.1"], "203.0.113.7"),  # a proxy with TLS before the balancer
        (["198.51.100.66, 203.0.113.7", "172.18.0.1"], "203.0.113.7"),  # and a caller that forges the header
        (
            ["198.51.100.66", "203.0.113.7"],
            "203.0.113.7",
        ),  # a caller that forges the header at the balancer itself
        (["172.18.0.1", "203.0.113.7"], "203.0.113.7"),
    ],
)
async def test_the_address_is_the_last_that_no_proxy_has_whatever_the_caller_says_before(
    farm: Farm, database_url: str, lines: list[str], address: str
) -> None:
    """Each proxy adds its caller's address, HAProxy in a header line of its own."""
    settings = test_settings(database_url, trusted_proxies="127.0.0.1,172.16.0.0/12")
    headers = [("X-Forwarded-For", line) for line in lines]
    async with on_a_socket(settings) as url, httpx.AsyncClient(base_url=url) as client:
        await client.post("/api/v1/auth/login", json=SIGN_IN, headers=headers)
    assert await farm.sql.fetchval("SELECT address FROM audit WHERE action = 'login'") == address


@pytest.mark.usefixtures("ann")
@pytest.mark.parametrize(
    "said", ["<b>made up</b> 'any text' zzz", "unknown", "fe80::1%any text", "1" * 5_000]
)
async def test_a_forwarded_text_that_is_no_ip_address_counts_as_the_proxys_address(
    farm: Farm, database_url: str, said: str
) -> None:
    settings = test_settings(database_url, trusted_proxies="127.0.0.1")
    async with on_a_socket(settings) as url, httpx.AsyncClient(base_url=url) as client:
        await client.post("/api/v1/auth/login", json=SIGN_IN, headers={"X-Forwarded-For": said})
    assert await farm.sql.fetchval("SELECT address FROM audit WHERE action = 'login'") == "127.0.0.1"


async def test_guesses_with_forged_addresses_count_as_one_address(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.access.login_throttle.LONGEST_QUEUE", 1.0)
    settings = test_settings(database_url, trusted_proxies="127.0.0.1")
    async with on_a_socket(settings) as url, httpx.AsyncClient(base_url=url, timeout=60) as client:
        guess = {"name": "someone", "password": "wrong"}
        attacks = [
            client.post("/api/v1/auth/login", json=guess, headers={"X-Forwarded-For": f"made up {number}"})
            for number in range(15)
        ]
        answers = await asyncio.gather(*attacks)
    assert sorted(answer.status_code for answer in answers) == [401] * 5 + [429] * 10


@pytest.mark.usefixtures("ann")
async def test_a_forwarded_address_is_ignored_by_default(farm: Farm, database_url: str) -> None:
    async with on_a_socket(test_settings(database_url)) as url, httpx.AsyncClient(base_url=url) as client:
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Request-ID": "mine"}
        await client.post("/api/v1/auth/login", json=SIGN_IN, headers=headers)
    row = await farm.sql.fetchrow("SELECT address, request_id FROM audit WHERE action = 'login'")
    assert tuple(row) == ("127.0.0.1", "mine")


@pytest.mark.usefixtures("ann")
async def test_logout_ends_the_session_and_clears_the_cookie(
    farm: Farm, anonymous: httpx.AsyncClient
) -> None:
    token = cookie_of(await anonymous.post("/auth/login", json=SIGN_IN)).value
    for _ in range(2):  # it may be repeated
        answer = await anonymous.post("/auth/logout", headers={"Cookie": f"{NAME}={token}"})
        assert (answer.status_code, answer.json()) == (200, {})
        cleared = cookie_of(answer)
        assert (cleared.key, cleared.value, cleared["max-age"], cleared["secure"]) == (NAME, "", "0", True)
    assert await farm.sql.fetchval("SELECT ended_at IS NOT NULL FROM sessions")
    assert await farm.sql.fetchval("SELECT count(*) FROM audit WHERE action = 'logout'") == 1


@pytest.mark.usefixtures("ann")
async def test_signing_in_again_ends_the_session_of_before(farm: Farm, anonymous: httpx.AsyncClient) -> None:
    async def sign_in(cookie: str, **fields: str) -> httpx.Response:
        headers = {"Cookie": f"{NAME}={cookie}"} if cookie else {}
        return await anonymous.post("/auth/login", json={**SIGN_IN, **fields}, headers=headers)

    async def status(cookie: str) -> int:
        return (await anonymous.get("/pools", headers={"Cookie": f"{NAME}={cookie}"})).status_code

    anonymous.cookies.jar.set_policy(
        DefaultCookiePolicy(allowed_domains=[])
    )  # each browser's cookie is sent by hand
    first, other = cookie_of(await sign_in("")).value, cookie_of(await sign_in("")).value
    assert await status(first) == 200
    assert (await sign_in(first, password="wrong")).status_code == 401
    assert await status(first) == 200, "nobody has signed in"
    second = cookie_of(await sign_in(first)).value
    assert [await status(each) for each in (first, second, other)] == [401, 200, 200]
    assert (await sign_in("nonsense")).status_code == 200
    actions = await farm.sql.fetch("SELECT action FROM audit WHERE target = 'operator' ORDER BY id")
    assert [row["action"] for row in actions].count("logout") == 1


@pytest.mark.parametrize("cookie", [{}, {"Cookie": f"{NAME}=nonsense"}, {"Cookie": "botfarm-8000=nonsense"}])
async def test_sign_out_without_a_session_succeeds(
    anonymous: httpx.AsyncClient, cookie: dict[str, str]
) -> None:
    answer = await anonymous.post("/auth/logout", headers=cookie)
    assert answer.status_code == 200
    assert cookie_of(answer)["max-age"] == "0"


@pytest.mark.usefixtures("ann")
async def test_a_page_of_another_site_cannot_sign_in_or_out(farm: Farm, anonymous: httpx.AsyncClient) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    refused = await anonymous.post("/auth/login", json=SIGN_IN, headers=elsewhere)
    assert "another site" in assert_problem(refused, 403, "forbidden")["detail"]
    assert "set-cookie" not in refused.headers
    token = cookie_of(await anonymous.post("/auth/login", json=SIGN_IN)).value
    with_cookie = {**elsewhere, "Cookie": f"{NAME}={token}"}
    assert_problem(await anonymous.post("/auth/logout", headers=with_cookie), 403, "forbidden")
    assert await farm.sql.fetchval("SELECT ended_at IS NULL FROM sessions")
    ours = {"Sec-Fetch-Site": "same-origin", "Cookie": f"{NAME}={token}"}
    assert (await anonymous.post("/auth/logout", headers=ours)).status_code == 200


@pytest.mark.usefixtures("ann")
async def test_over_plain_http_on_loopback_the_cookie_has_another_name(database_url: str) -> None:
    async with api_client(test_settings(database_url, cookie_insecure=True, port=8123)) as api:
        cookie = cookie_of(await api.post("/auth/login", json=SIGN_IN))
        assert (cookie.key, cookie["secure"], cookie["httponly"]) == ("botfarm-8123", "", True)
        signed_out = await api.post("/auth/logout", headers={"Cookie": f"botfarm-8123={cookie.value}"})
        assert cookie_of(signed_out).key == "botfarm-8123"


@pytest.mark.usefixtures("ann")
async def test_delayed_sign_ins_do_not_keep_a_process_from_stopping(database_url: str) -> None:
    async with open_farm(database_url) as farm:
        attempts = [
            asyncio.create_task(
                farm.services.sessions.login("Ann", "wrong", address="192.0.2.66", request_id=None)
            )
            for _ in range(9)
        ]
        await asyncio.sleep(0)
        farm.services.shutdown.begin()
        ends = await asyncio.wait_for(asyncio.gather(*attempts, return_exceptions=True), 5)
        assert {type(end) for end in ends[3:]} == {ShuttingDownError}
