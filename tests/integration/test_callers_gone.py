"""A caller that disconnects keeps no user, and a retry under its key gets the lease of a lost answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Role
from botfarm.domain.pools import Pool
from support.app import api_client, on_a_socket
from support.farm import PASSWORD, TOKEN, Farm, open_farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.proxy import proxy_to


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(test_settings(database_url)) as client:
        await create_user(client, await create_project(client))
        yield client


async def ask_and_hang_up(
    api: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str
) -> list[Any]:
    """Sends a request on a connection that closes as soon as the request is read.

    Returns the messages sent to the caller.
    """
    given = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", **headers}
    content = json.dumps(body).encode()
    events = iter([{"type": "http.request", "body": content, "more_body": False}])
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return next(events, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": f"/api/v1{path}",
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "headers": [
            (name.encode(), value.encode())
            for name, value in {**given, "content-length": str(len(content))}.items()
        ],
    }
    transport: Any = api._transport
    await transport.app(scope, receive, send)
    return sent


async def pool_of(api: httpx.AsyncClient) -> dict[str, Any]:
    (pool,) = (await api.get("/pools")).json()["items"]
    return dict(pool)


async def test_without_a_key_the_lease_is_released_at_once_without_rest(api: httpx.AsyncClient) -> None:
    project = (await api.get("/projects")).json()["items"][0]
    await api.patch(f"/projects/{project['id']}", json={"cooldown": 600})
    await ask_and_hang_up(api, "/leases", LEASE)
    assert (await pool_of(api))["free"] == 1
    (lease,) = (await api.get("/leases")).json()["items"]
    assert lease["ended_by"] == "released"
    user_id = (await api.get("/users")).json()["items"][0]["id"]
    await ask_and_hang_up(api, f"/users/{user_id}/acquire_lock", {})
    assert (await pool_of(api))["free"] == 1


@pytest.mark.parametrize("ttl_seconds", [900, 10])
async def test_with_a_key_the_lease_ends_soon_and_a_retry_gives_it_back_whole(
    api: httpx.AsyncClient, ttl_seconds: int
) -> None:
    wanted = {**LEASE, "ttl_seconds": ttl_seconds}
    await ask_and_hang_up(api, "/leases", wanted, **{"idempotency-key": "k"})
    (lease,) = (await api.get("/leases")).json()["items"]
    assert lease["ended_at"] is None
    assert lease["expires_in"] <= min(ttl_seconds, 30)
    pool = await pool_of(api)
    assert pool["leased"] == 1
    assert pool["next_free_in"] <= min(ttl_seconds, 30) + 15
    again = await api.post("/leases", json=wanted, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.json()["id"]) == (200, lease["id"])
    assert ttl_seconds - 5 < again.json()["expires_in"] <= ttl_seconds


async def test_a_caller_that_disconnects_while_it_waits_gets_no_user(api: httpx.AsyncClient) -> None:
    holder = (await api.post("/leases", json=LEASE)).json()
    await ask_and_hang_up(api, "/leases", {**LEASE, "wait_seconds": 50})
    await api.post(f"/leases/{holder['id']}/release")
    assert (await pool_of(api))["free"] == 1
    assert len((await api.get("/leases")).json()["items"]) == 1
    metrics = (await api.get("http://farm.test/metrics")).text
    assert 'result="gone"' in metrics


async def test_an_operator_whose_session_ends_while_it_waits_gets_no_user(
    api: httpx.AsyncClient, farm: Farm
) -> None:
    await farm.services.operators.add("Ann", PASSWORD, Role.MANAGER, EVERYTHING)
    holder = (await api.post("/leases", json=LEASE)).json()
    async with httpx.AsyncClient(transport=api._transport, base_url=api.base_url) as browser:
        signed_in = await browser.post("/auth/login", json={"name": "Ann", "password": PASSWORD})
        cookie = {"cookie": signed_in.headers["set-cookie"].partition(";")[0]}
        body = {**LEASE, "wait_seconds": 30}
        waiting = asyncio.create_task(browser.post("/leases", json=body, headers=cookie))
        async with asyncio.timeout(60):
            while (await pool_of(api))["waiting"] == 0:
                await asyncio.sleep(0.01)
            await browser.post("/auth/logout", headers=cookie)
            await api.post(f"/leases/{holder['id']}/release")
            assert_problem(await waiting, 401, "unauthenticated")
    assert (await pool_of(api))["free"] == 1


async def test_an_answer_that_the_network_loses_is_recovered_by_the_key(database_url: str) -> None:
    async with (
        open_farm(database_url) as farm,
        on_a_socket(test_settings(database_url)) as url,
        proxy_to(url) as proxy,
    ):
        pool = await farm.pool(2)
        wanted = {"project_id": str(pool.project_id), "env": "stage"}
        headers = {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "job 7"}
        async with httpx.AsyncClient(base_url=f"{proxy.url}/api/v1", headers=headers) as client:
            assert (await client.get("/pools")).status_code == 200
            proxy.lose_answers()
            lost = asyncio.create_task(client.post("/leases", json=wanted))
            await until_leased(farm, pool)
            await proxy.cut()
            with pytest.raises(httpx.TransportError):
                await lost
            await proxy.mend()
            found = await client.post("/leases", json=wanted)
        assert found.status_code == 200
        assert await farm.sql.fetchval("SELECT count(*) FROM leases") == 1
        lease = await farm.sql.fetchrow("SELECT * FROM leases")
        assert found.json()["id"] == str(lease["id"])
        assert lease["expires_at"] - lease["acquired_at"] == timedelta(seconds=900)


async def until_leased(farm: Farm, pool: Pool) -> None:
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval(
            "SELECT count(*) FROM leases WHERE project_id = $1", pool.project_id
        ):
            await asyncio.sleep(0.01)


async def test_disconnects_leak_no_database_connection(database_url: str) -> None:
    async with api_client(test_settings(database_url, database_pool_size=2)) as api:
        await create_user(api, await create_project(api))
        for body in (
            {**LEASE, "wait_seconds": 5},
            LEASE,
            {**LEASE, "count": 2},
            {**LEASE, "labels": {"a": "b"}},
        ):
            await asyncio.gather(*(ask_and_hang_up(api, "/leases", body) for _ in range(5)))
        for _ in range(5):  # as many at once as there are connections
            answers = await asyncio.gather(*(api.get("/users") for _ in range(2)))
            assert [answer.status_code for answer in answers] == [200, 200]
        assert (await api.post("/leases", json=LEASE)).status_code == 201
