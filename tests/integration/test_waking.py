"""Every operation that frees a user wakes waiting requests at another replica, without polling."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from botfarm.services.waiting import pool_queue
from support.app import api_client
from support.farm import PASSWORD, test_settings
from support.http import LEASE, create_project, create_user

Json = dict[str, Any]


@pytest.fixture
def never_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL", 600.0)
    monkeypatch.setattr(pool_queue, "POLL_INTERVAL_WITHOUT_NOTIFY", 600.0)


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with api_client(test_settings(database_url)) as client:
        yield client


async def release(api: httpx.AsyncClient, lease: Json) -> httpx.Response:
    return await api.post(f"/leases/{lease['id']}/release")


async def release_lock(api: httpx.AsyncClient, lease: Json) -> httpx.Response:
    path = f"/users/{lease['users'][0]['id']}/release_lock"
    return await api.post(path, json={"lease_id": lease["id"]})


async def force_release(api: httpx.AsyncClient, lease: Json) -> httpx.Response:
    return await api.post(f"/leases/{lease['id']}/force_release", json={"reason": "stuck"})


async def create(api: httpx.AsyncClient, lease: Json) -> httpx.Response:
    body = {"login": "new@shop.test", "password": PASSWORD, "project_id": lease["project_id"]}
    return await api.post("/users", json={**body, "env": "stage", "domain": "regular"})


async def import_one(api: httpx.AsyncClient, lease: Json) -> httpx.Response:
    line = (
        f'{{"login": "new@shop.test", "password": "{PASSWORD}", "project_id": "{lease["project_id"]}", '
        '"env": "stage", "domain": "regular"}'
    )
    headers = {"Content-Type": "application/x-ndjson"}
    return await api.post("/users/import", content=line, headers=headers)


async def restore(api: httpx.AsyncClient, _: Json) -> httpx.Response:
    (mended,) = (await api.get("/users", params={"state": "quarantined"})).json()["items"]
    return await api.post(f"/users/{mended['id']}/restore")


async def move(api: httpx.AsyncClient, _: Json) -> httpx.Response:
    """Free, and of another domain until now."""
    (moved,) = (await api.get("/users", params={"domain": "canary"})).json()["items"]
    return await api.patch(f"/users/{moved['id']}", json={"domain": "regular"})


@pytest.mark.usefixtures("never_polls")
@pytest.mark.parametrize("free", [release, release_lock, force_release, create, import_one, restore, move])
async def test_an_operation_that_frees_a_user_wakes_a_waiting_request(
    api: httpx.AsyncClient,
    elsewhere: httpx.AsyncClient,
    free: Callable[[httpx.AsyncClient, Json], Awaitable[httpx.Response]],
) -> None:
    project_id = await create_project(api, lock_delay=0)
    await create_user(api, project_id, domain="canary")
    broken = await create_user(api, project_id)
    await api.post(f"/users/{broken['id']}/quarantine", json={"reason": "captcha"})
    await create_user(api, project_id)
    lease = (await api.post("/leases", json=LEASE)).json()
    waiting = asyncio.create_task(elsewhere.post("/leases", json={**LEASE, "wait_seconds": 30}))
    async with asyncio.timeout(60):
        while not (await api.get("/leases/waiting")).json()["items"]:
            await asyncio.sleep(0.005)
    answer = await free(api, lease)
    assert answer.is_success, answer.text
    assert (await asyncio.wait_for(waiting, 60)).status_code == 201
