"""The farm as a file wants it: planned, and applied all of it or nothing."""

from typing import Any

import httpx
import pytest

from support.farm import PASSWORD
from support.http import assert_problem, create_project, create_user

Json = dict[str, Any]


def user(login: str, **fields: Any) -> Json:
    return {"login": login, "env": "stage", "password": PASSWORD, **fields}


def file(*users: Json, policy: Json | None = None, **fields: Any) -> Json:
    project = {"name": "shop", "policy": policy or {}, "users": list(users)}
    return {"name": "shop-team", "projects": [project], **fields}


async def plan(api: httpx.AsyncClient, body: Json) -> Json:
    answer = await api.post("/config/plan", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def apply(api: httpx.AsyncClient, body: Json) -> Json:
    """Plans and applies."""
    fingerprint = (await plan(api, body))["fingerprint"]
    answer = await api.post("/config/apply", json={**body, "fingerprint": fingerprint})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def deeds(planned: Json) -> list[tuple[str, str, str]]:
    return [(each["thing"]["kind"], each["thing"]["name"], each["deed"]) for each in planned["changes"]]


async def users(api: httpx.AsyncClient) -> list[Json]:
    return list((await api.get("/users")).json()["items"])


async def test_an_empty_farm_becomes_as_the_file_says_and_then_there_is_nothing_to_do(
    api: httpx.AsyncClient,
) -> None:
    wanted = file(
        user("anna@shop.test", labels={"plan": "paid"}),
        user("ben@shop.test", domain="canary"),
        policy={"default_ttl": 60},
        tokens=[{"name": "ci", "role": "runner", "projects": ["shop"], "envs": ["stage"], "max_leases": 5}],
    )
    planned = await plan(api, wanted)
    assert deeds(planned) == [
        ("project", "shop", "create"),
        ("user", "anna@shop.test", "create"),
        ("user", "ben@shop.test", "create"),
        ("token", "ci", "create"),
    ]
    assert await users(api) == []
    applied = await apply(api, wanted)
    assert deeds(applied) == deeds(planned)
    assert [token["name"] for token in applied["tokens"]] == ["ci"]
    project = (await api.get("/projects")).json()["items"][0]
    assert (project["default_ttl"], project["managed_by"]) == (60, "shop-team")
    assert {(each["login"], each["domain"], each["managed_by"]) for each in await users(api)} == {
        ("anna@shop.test", "regular", "shop-team"),
        ("ben@shop.test", "canary", "shop-team"),
    }
    runner = {"Authorization": f"Bearer {applied['tokens'][0]['token']}"}
    lease = await api.post("/leases", json={"project": "shop", "env": "stage"}, headers=runner)
    assert lease.json()["users"][0]["password"] == PASSWORD
    assert deeds(await plan(api, wanted)) == []
    assert deeds(await apply(api, wanted)) == []


async def test_only_what_the_file_says_is_changed(api: httpx.AsyncClient) -> None:
    await apply(api, file(user("anna@shop.test", labels={"plan": "paid", "old": "1"}), policy={"cooldown": 7}))
    wanted = file(user("anna@shop.test", domain="canary", labels={"plan": "free"}), policy={"max_ttl": 99})
    planned = await plan(api, wanted)
    assert {
        (each["field"], each["before"], each["after"])
        for change in planned["changes"]
        for each in change["differences"]
    } == {
        ("max_ttl", 14_400, 99),
        ("domain", "regular", "canary"),
        ("labels.plan", "paid", "free"),
        ("labels.old", "1", None),
    }
    await apply(api, wanted)
    project = (await api.get("/projects")).json()["items"][0]
    assert (project["cooldown"], project["max_ttl"]) == (7, 99)
    anna = (await users(api))[0]
    assert (anna["domain"], anna["labels"]) == ("canary", {"plan": "free"})
    await apply(api, file(user("anna@shop.test")))  # says neither labels nor domain
    assert (await users(api))[0]["labels"] == {"plan": "free"}
