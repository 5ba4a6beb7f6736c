"""API tokens: shown once, refused on every replica soon after their revocation, limited by their quota."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from botfarm.crypto import api_tokens
from botfarm.crypto.api_tokens import new_token, parse_token
from botfarm.domain.access import EVERYTHING, Role
from support.app import api_client
from support.farm import PASSWORD, Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user

TOKEN = {"name": "ci", "role": "runner", "projects": ["*"], "envs": ["*"]}


async def make(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/tokens", json={**TOKEN, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_is_shown_once_and_stored_as_a_hash(api: httpx.AsyncClient, farm: Farm) -> None:
    project = await create_project(api)
    made = await make(api, projects=["shop"], envs=["stage", "prod"], max_leases=2, expires_in=3_600)
    assert re.fullmatch(r"bf_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", made["token"])
    shown = (await api.get("/tokens")).json()["items"]
    assert shown == [{name: value for name, value in made.items() if name != "token"}]
    assert (made["projects"], made["envs"], made["max_leases"]) == ([project], ["prod", "stage"], 2)
    stored = "".join(map(str, await farm.sql.fetch("SELECT t::text FROM tokens AS t")))
    parsed = parse_token(made["token"])
    assert parsed is not None
    assert parsed.secret not in stored
    assert parsed.secret_hash.hex() in stored


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"projects": None}, "projects"),
        ({"projects": []}, "projects"),
        ({"projects": ["*", "shop"]}, "projects"),
        ({"envs": None}, "envs"),
        ({"envs": ["Production"]}, "envs.0"),
        ({"role": "root"}, "role"),
        ({"max_leases": 0}, "max_leases"),
        ({"expires_in": 0}, "expires_in"),
        ({"name": "a b"}, "name"),
    ],
)
async def test_a_refused_token_names_the_wrong_field(
    api: httpx.AsyncClient, fields: dict[str, Any], named: str
) -> None:
    body = {name: value for name, value in {**TOKEN, **fields}.items() if value is not None}
    problem = assert_problem(await api.post("/tokens", json=body), 422, "invalid-request")
    assert problem["errors"][0]["field"].startswith(named)


async def test_a_token_for_a_project_that_is_not_there(api: httpx.AsyncClient) -> None:
    answer = await api.post("/tokens", json={**TOKEN, "projects": ["nowhere"]})
    assert_problem(answer, 404, "no-such-project")


async def test_a_token_cannot_exceed_its_maker(api: httpx.AsyncClient) -> None:
    await create_project(api)
    admin = await make(api, role="admin", projects=["shop"], envs=["stage"])
    headers = bearer(admin["token"])
    assert_problem(await api.post("/tokens", json=TOKEN, headers=headers), 403, "forbidden")
    within = {**TOKEN, "projects": ["shop"], "envs": ["stage"]}
    assert (await api.post("/tokens", json=within, headers=headers)).status_code == 201


async def test_a_token_ends_with_its_maker_and_has_no_larger_quota(api: httpx.AsyncClient) -> None:
    admin = await make(api, name="admin", role="admin", max_leases=2, expires_in=3_600)
    headers = bearer(admin["token"])
    for fields in ({}, {"max_leases": 3}):
        answer = await api.post("/tokens", json={**TOKEN, **fields}, headers=headers)
        assert "2 at most" in assert_problem(answer, 403, "forbidden")["detail"]
    ends = []
    for fields in ({}, {"expires_in": 86_400}, {"expires_in": 60}):
        answer = await api.post("/tokens", json={**TOKEN, "max_leases": 2, **fields}, headers=headers)
        assert answer.status_code == 201, answer.text
        ends.append(answer.json()["expires_at"])
    assert ends[:2] == [admin["expires_at"]] * 2
    assert ends[2] < admin["expires_at"]
    assert (await make(api))["expires_at"] is None, "the maker does not end"


@pytest.mark.parametrize(
    ("said", "days"), [({}, 90), ({"expires_in": 3 * 86_400}, 3), ({"expires_in": None}, None)]
)
async def test_a_token_made_in_a_session_ends_after_90_days_by_default(
    api: httpx.AsyncClient, farm: Farm, said: dict[str, int | None], days: int | None
) -> None:
    await farm.services.operators.add("ann", PASSWORD, Role.ADMIN, EVERYTHING)
    signed_in = await api.post("/auth/login", json={"name": "ann", "password": PASSWORD})
    cookie = {"Cookie": signed_in.headers["set-cookie"].partition(";")[0]}
    del api.headers["Authorization"]
    answer = await api.post("/tokens", json={**TOKEN, **said}, headers=cookie)
    assert answer.status_code == 201, answer.text
    life = await farm.sql.fetchval("SELECT expires_at - created_at FROM tokens")
    assert (life and round(life / timedelta(days=1), 3)) == days


async def test_the_audit_lists_a_tokens_scope_in_a_fixed_order(api: httpx.AsyncClient) -> None:
    projects = [await create_project(api, name=name) for name in ("a", "b", "c", "d")]
    await make(api, projects=["d", projects[1], "a", "c", "b"], envs=["stage", "prod"])
    await make(api)
    everything, some = (await api.get("/audit", params={"action": "create_token"})).json()["items"]
    assert (some["details"]["projects"], some["details"]["envs"]) == (sorted(projects), ["prod", "stage"])
    assert (everything["details"]["projects"], everything["details"]["envs"]) == (["*"], ["*"])


async def test_tokens_made_by_a_token_are_found(api: httpx.AsyncClient) -> None:
    admin = await make(api, name="admin", role="admin")
    made = (await api.post("/tokens", json=TOKEN, headers=bearer(admin["token"]))).json()
    found = (await api.get("/tokens", params={"created_by": f"token:admin:{admin['id']}"})).json()["items"]
    assert [token["id"] for token in found] == [made["id"]]
    assert (await api.get("/tokens", params={"created_by": "nobody"})).json()["items"] == []


async def test_only_the_whole_secret_counts(api: httpx.AsyncClient) -> None:
    made, other = await make(api), new_token()
    assert (await api.get("/pools", headers=bearer(made["token"]))).status_code == 200
    parsed = parse_token(made["token"])
    assert parsed is not None
    forged = api_tokens.ApiToken(parsed.id, other.secret).write()
    for token in (forged, other.write(), made["token"][:-1] + "!", made["token"].upper(), "bf__", "\u00e9"):
        answer = await api.get("/pools", headers={"Authorization": f"Bearer {token}".encode()})
        assert_problem(answer, 401, "unauthenticated")


async def test_a_revoked_token_is_refused_on_every_replica_and_its_lease_lives_on(
    api: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.shared.ttl_cache.REFRESH_INTERVAL", 0.05)
    project = await create_project(api)
    await create_user(api, project)
    made = await make(api)
    async with api_client(test_settings(database_url)) as replica:
        lease = (await replica.post("/leases", json=LEASE, headers=bearer(made["token"]))).json()
        for _ in range(2):  # idempotent
            assert (await api.delete(f"/tokens/{made['id']}")).status_code == 204
        async with asyncio.timeout(5):
            while (await replica.get("/pools", headers=bearer(made["token"]))).status_code != 401:
                await asyncio.sleep(0.01)
        assert (await replica.get(f"/leases/{lease['id']}")).json()["ended_at"] is None
    assert (await api.get("/tokens")).json()["items"][0]["revoked_at"] is not None
    assert_problem(await api.delete("/tokens/aaaaaaaaaaaa"), 404, "no-such-token")


async def test_a_waiting_request_whose_token_is_revoked_gets_no_user(api: httpx.AsyncClient) -> None:
    await create_user(api, await create_project(api))
    held = (await api.post("/leases", json=LEASE)).json()
    made = await make(api)
    headers = bearer(made["token"])
    waiting = asyncio.create_task(api.post("/leases", json={**LEASE, "wait_seconds": 30}, headers=headers))
    async with asyncio.timeout(60):
        while (await api.get("/pools")).json()["items"][0]["waiting"] == 0:
            await asyncio.sleep(0.01)
        await api.delete(f"/tokens/{made['id']}")
        while (await api.get("/pools", headers=headers)).status_code != 401:
            await asyncio.sleep(0.01)
        await api.post(f"/leases/{held['id']}/release")
        assert_problem(await waiting, 401, "unauthenticated")
    assert (await api.get("/pools")).json()["items"][0]["free"] == 1


async def test_a_token_ends_by_itself(api: httpx.AsyncClient, farm: Farm) -> None:
    made = await make(api, expires_in=3_600)
    await farm.sql.execute("UPDATE tokens SET expires_at = clock_timestamp() - interval '1 second'")
    assert_problem(await api.get("/pools", headers=bearer(made["token"])), 401, "unauthenticated")


async def test_the_use_of_a_token_is_recorded(
    api: httpx.AsyncClient, farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.shared.ttl_cache.REFRESH_INTERVAL", 0.05)
    made = await make(api)
    assert made["last_used_at"] is None
    await api.get("/pools", headers=bearer(made["token"]))
    async with asyncio.timeout(60):
        while not (first := await farm.sql.fetchval("SELECT last_used_at FROM tokens")):
            await asyncio.sleep(0.01)
    # Within the same minute a further use changes nothing, however often the watch refreshes.
    before = await farm.sql.fetchval("SELECT xmin::text FROM tokens")
    await api.get("/pools", headers=bearer(made["token"]))
    await farm.services.authentication.principal_of(f"Bearer {made['token']}")
    await farm.services.authentication.note_use()
    assert await farm.sql.fetchval("SELECT xmin::text FROM tokens") == before
    assert await farm.sql.fetchval("SELECT last_used_at FROM tokens") == first


async def test_a_known_token_asks_the_database_nothing(api: httpx.AsyncClient, farm: Farm) -> None:
    made = await make(api)
    authentication = farm.services.authentication
    await authentication.principal_of(f"Bearer {made['token']}")
    await farm.sql.execute("ALTER TABLE tokens RENAME TO out_of_reach")
    principal = await authentication.principal_of(f"Bearer {made['token']}")
    assert principal.name == f"token:ci:{made['id']}"


class TestQuota:
    async def test_a_request_over_the_quota_is_refused_at_once_even_if_it_would_wait(
        self, api: httpx.AsyncClient
    ) -> None:
        project = await create_project(api)
        for _ in range(4):
            await create_user(api, project)
        headers = bearer((await make(api, max_leases=2))["token"])
        first = await api.post("/leases", json=LEASE, headers=headers)
        assert first.status_code == 201
        answer = await api.post("/leases", json={**LEASE, "count": 2, "wait_seconds": 30}, headers=headers)
        problem = assert_problem(answer, 429, "quota-exceeded")
        assert (problem["held"], problem["count"], problem["max_leases"]) == (1, 2, 2)
        assert (await api.post("/leases", json=LEASE, headers=headers)).status_code == 201
        user = (await api.get("/users", params={"state": "free"})).json()["items"][0]
        locked = await api.post(f"/users/{user['id']}/acquire_lock", headers=headers)
        assert_problem(locked, 429, "quota-exceeded")
        await api.post(f"/leases/{first.json()['id']}/release", headers=headers)
        assert (await api.post(f"/users/{user['id']}/acquire_lock", headers=headers)).status_code == 200

    async def test_of_many_at_once_as_many_succeed_as_may(self, api: httpx.AsyncClient) -> None:
        project = await create_project(api)
        for _ in range(10):
            await create_user(api, project)
        headers = bearer((await make(api, max_leases=3))["token"])
        answers = await asyncio.gather(*(api.post("/leases", json=LEASE, headers=headers) for _ in range(10)))
        assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 7

    async def test_a_retry_under_the_same_key_does_not_count_against_the_quota(
        self, api: httpx.AsyncClient
    ) -> None:
        await create_user(api, await create_project(api))
        headers = {**bearer((await make(api, max_leases=1))["token"]), "Idempotency-Key": "k"}
        first = await api.post("/leases", json=LEASE, headers=headers)
        again = await api.post("/leases", json=LEASE, headers=headers)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["id"] == again.json()["id"]
