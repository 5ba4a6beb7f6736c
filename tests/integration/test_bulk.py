"""One change for many users, while they are acquired and released."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.domain.users import BulkAction, BulkChange, UserFilter, UserState
from botfarm.errors import PoolExhaustedError
from support.farm import MANAGER, Farm
from support.http import LEASE, assert_problem, create_project, create_user

QUARANTINE = BulkChange(BulkAction.QUARANTINE, "the tenant moves")


async def states(api: httpx.AsyncClient) -> list[str]:
    return sorted(user["state"] for user in (await api.get("/users")).json()["items"])


async def bulk(api: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await api.post("/users/bulk", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_users_of_a_filter_leave_service_and_come_back(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    for number in range(4):
        await create_user(api, project_id, labels={"tenant": "a" if number < 3 else "b"})
    leased = (await api.post("/leases", json={**LEASE, "labels": {"tenant": "a"}})).json()
    wanted = {"action": "quarantine", "reason": "moves", "filter": {"labels": {"tenant": "a"}}}
    assert await bulk(api, **wanted, dry_run=True) == {"matched": 3, "done": 3, "replaced": 0, "failed": []}
    assert await states(api) == ["free", "free", "free", "leased"]
    assert await bulk(api, **wanted) == {"matched": 3, "done": 3, "replaced": 0, "failed": []}
    assert await states(api) == ["free", "quarantined", "quarantined", "quarantined"]
    await api.post(f"/leases/{leased['id']}/release")
    assert await states(api) == ["free", "quarantined", "quarantined", "quarantined"]
    entries = (await api.get("/audit", params={"action": "quarantine_user"})).json()["items"]
    assert [entry["details"]["reason"] for entry in entries] == ["moves"] * 3
    assert await bulk(api, action="restore", filter={"state": "quarantined"}) == {
        "matched": 3, "done": 3, "replaced": 0, "failed": [],
    }  # fmt: skip
    assert await states(api) == ["free"] * 4


async def test_what_cannot_be_done_is_said_for_each_user(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    free, leased, retired = [await create_user(api, project_id) for _ in range(3)]
    await api.post(f"/users/{leased['id']}/acquire_lock")
    await api.post(f"/users/{retired['id']}/retire", json={"reason": "gone"})
    ids = [free["id"], leased["id"], retired["id"], str(uuid4())]
    result = await bulk(api, action="quarantine", reason="why", ids=ids)
    assert (result["matched"], result["done"]) == (3, 2)
    assert {each["id"]: each["problem"] for each in result["failed"]} == {
        ids[2]: "user-retired", ids[3]: "no-such-user",
    }  # fmt: skip
    result = await bulk(api, action="delete", ids=ids)
    assert {each["id"]: each["problem"] for each in result["failed"]} == {
        ids[1]: "user-busy", ids[3]: "no-such-user",
    }  # fmt: skip
    assert {each["id"]: each["login"] for each in result["failed"]} == {
        ids[1]: leased["login"], ids[3]: None,
    }  # fmt: skip
    assert [user["id"] for user in (await api.get("/users")).json()["items"]] == [leased["id"]]


async def test_reasons_that_a_change_replaces_are_counted(api: httpx.AsyncClient) -> None:
    """So that the second of two people learns that somebody was there before."""
    project_id = await create_project(api)
    over, there, free = [await create_user(api, project_id) for _ in range(3)]
    await api.post(f"/users/{over['id']}/quarantine", json={"reason": "a", "until": "2020-01-01T00:00:00Z"})
    await api.post(f"/users/{there['id']}/quarantine", json={"reason": "first"})
    for action, replaced in (("quarantine", 1), ("quarantine", 3), ("retire", 0), ("retire", 3)):
        wanted = {"action": action, "reason": "second", "filter": {"all": True}}
        for dry_run in (True, False):
            result = await bulk(api, **wanted, dry_run=dry_run)
            assert result == {"matched": 3, "done": 3, "replaced": replaced, "failed": []}
    assert (await api.get(f"/users/{free['id']}")).json()["status_reason"] == "second"


async def test_labels_are_merged(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    full = await create_user(api, project_id, labels={f"k{n}": "" for n in range(64)})
    user = await create_user(api, project_id, labels={"old": "1", "kept": "2"})
    result = await bulk(api, action="label", labels={"old": None, "new": "3"}, filter={"all": True})
    failure = {"id": full["id"], "login": full["login"], "problem": "invalid-request"}
    assert result == {"matched": 2, "done": 1, "replaced": 0, "failed": [failure]}
    assert (await api.get(f"/users/{user['id']}")).json()["labels"] == {"kept": "2", "new": "3"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "quarantine", "reason": "r", "filter": {}}, "filter.all"),
        ({"action": "quarantine", "reason": "r"}, "filter"),
        ({"action": "quarantine", "filter": {"all": True}}, "reason"),
        ({"action": "restore", "filter": {"all": True}, "ids": [str(uuid4())]}, "ids"),
        ({"action": "restore", "ids": []}, "ids"),
        ({"action": "label", "filter": {"all": True}}, "labels"),
        ({"action": "restore", "filter": {"all": True}, "labels": {"a": "b"}}, "labels"),
        ({"action": "explode", "filter": {"all": True}}, "action"),
        ({"action": "restore", "filter": {"colour": "red", "all": True}}, "filter.colour"),
    ],
)
async def test_a_change_that_is_not_clear_is_refused(
    api: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    user = await create_user(api, await create_project(api))
    problem = assert_problem(await api.post("/users/bulk", json=body), 422, "invalid-request")
    assert [error["field"] for error in problem["errors"]] == [field]
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "free"


async def test_users_that_are_acquired_and_released_meanwhile_are_changed_too(farm: Farm) -> None:
    """Runners go on all the time. In the end every user is out of service, and none was lost or granted twice."""
    pool = await farm.pool(30)
    stopping = asyncio.Event()

    async def run() -> None:
        while not stopping.is_set():
            try:
                lease = await farm.acquire(pool)
            except PoolExhaustedError:
                await asyncio.sleep(0)
                continue
            await farm.release(lease)

    runners = [asyncio.create_task(run()) for _ in range(5)]
    result = await farm.services.bulk.change(
        MANAGER, UserFilter(project_id=pool.project_id), QUARANTINE, dry_run=False
    )
    stopping.set()
    await asyncio.gather(*runners)
    assert (result.matched, result.done, result.failed) == (30, 30, ())
    (usage,) = await farm.services.pools.list(MANAGER.scope)
    assert (usage.counts.quarantined, usage.counts.total) == (30, 30)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)


async def test_a_grant_waits_for_a_bulk_change_instead_of_missing_its_users(farm: Farm) -> None:
    """The change has locked the only user when a request arrives, and is taken back: the request gets the user."""
    pool = await farm.pool(1)
    (user,) = (await farm.services.users.list(MANAGER.scope, UserFilter(), cursor=None, limit=10)).items
    dry = [farm.services.bulk.change(MANAGER, [user.id], QUARANTINE, dry_run=True) for _ in range(20)]
    changes = asyncio.gather(*dry)
    for _ in range(20):
        await farm.release(await farm.acquire(pool))
    await changes
    assert (await farm.seen(user.id)).state is UserState.FREE
