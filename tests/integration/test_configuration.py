"""The farm as a file wants it: planned, and applied all of it or nothing."""

from typing import Any

import httpx
import pytest

from support.configuration import Json, apply, deeds, plan
from support.farm import PASSWORD
from support.http import assert_problem, create_project, create_user


def user(login: str, **fields: Any) -> Json:
    return {"login": login, "env": "stage", "password": PASSWORD, **fields}


def file(*users: Json, policy: Json | None = None, **fields: Any) -> Json:
    project = {"name": "shop", "policy": policy or {}, "users": list(users)}
    return {"name": "shop-team", "projects": [project], **fields}


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
    await apply(
        api, file(user("anna@shop.test", labels={"plan": "paid", "old": "1"}), policy={"cooldown": 7})
    )
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


async def test_what_the_file_did_not_make_is_left_alone_until_it_is_adopted(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login="Anna@shop.test", labels={"by": "hand"})
    await api.post("/tokens", json={"name": "ci", "role": "viewer", "projects": ["shop"], "envs": ["*"]})
    wanted = file(
        user("anna@SHOP.test", labels={}),
        policy={"cooldown": 9},
        tokens=[{"name": "ci", "role": "admin", "projects": ["*"], "envs": ["*"]}],
    )
    applied = await apply(api, {**wanted, "prune": True})
    assert deeds(applied) == []
    assert [(each["thing"]["kind"], each["reason"]) for each in applied["left_alone"]] == [
        ("project", "not-managed"),
        ("user", "not-managed"),
        ("token", "not-managed"),
    ]
    assert (await users(api))[0]["labels"] == {"by": "hand"}
    await apply(api, {**wanted, "adopt": True})
    anna = (await users(api))[0]
    assert (anna["labels"], anna["managed_by"]) == ({}, "shop-team")
    project = (await api.get("/projects")).json()["items"][0]
    token = (await api.get("/tokens")).json()["items"][0]
    assert (project["cooldown"], project["managed_by"]) == (9, "shop-team")
    assert (token["role"], token["projects"], token["managed_by"]) == ("admin", ["*"], "shop-team")
    left = (await plan(api, {**wanted, "name": "other-team"}))["left_alone"]
    assert {each["reason"] for each in left} == {"managed-elsewhere"}


async def test_pruning_retires_and_revokes_what_this_file_made(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login="by-hand@shop.test")
    await apply(api, {**file(user("theirs@shop.test")), "name": "other-team"})
    token = {"name": "ci", "role": "runner", "projects": ["shop"], "envs": ["*"]}
    made = await apply(api, file(user("anna@shop.test"), user("ben@shop.test"), tokens=[token]))
    anna = next(each for each in await users(api) if each["login"] == "anna@shop.test")
    lease = (await api.post(f"/users/{anna['id']}/acquire_lock", json={})).json()

    smaller = file(user("ben@shop.test"))
    kept = await plan(api, smaller)
    assert (deeds(kept), [each["name"] for each in kept["unnamed"]]) == ([], ["anna@shop.test", "ci"])
    pruned = await apply(api, {**smaller, "prune": True})
    assert deeds(pruned) == [("user", "anna@shop.test", "retire"), ("token", "ci", "revoke")]
    assert (await api.get(f"/leases/{lease['id']}")).json()["ended_at"] is None
    assert (await api.post(f"/leases/{lease['id']}/release", json={})).status_code == 200
    assert {each["login"]: each["state"] for each in await users(api)} == {
        "anna@shop.test": "retired",
        "ben@shop.test": "free",
        "by-hand@shop.test": "free",
        "theirs@shop.test": "free",
    }
    revoked = {"Authorization": f"Bearer {made['tokens'][0]['token']}"}
    assert (await api.get("/projects", headers=revoked)).status_code == 401
    assert deeds(await plan(api, {**smaller, "prune": True})) == []
    again = await plan(api, file(user("anna@shop.test")))
    assert again["left_alone"][0]["reason"] == "retired"


async def test_a_project_that_the_file_no_longer_names_is_kept(api: httpx.AsyncClient) -> None:
    await apply(api, file(user("anna@shop.test")))
    pruned = await apply(api, {"name": "shop-team", "prune": True})
    assert deeds(pruned) == [("user", "anna@shop.test", "retire")]
    assert [each["kind"] for each in pruned["unnamed"]] == ["project"]
    assert len((await api.get("/projects")).json()["items"]) == 1


async def test_each_change_is_in_the_audit_without_a_credential(api: httpx.AsyncClient) -> None:
    token = {"name": "ci", "role": "runner", "projects": ["shop"], "envs": ["*"]}
    await apply(api, file(user("anna@shop.test"), policy={"cooldown": 5}, tokens=[token]))
    await apply(
        api,
        file(
            user("anna@shop.test", labels={"a": "b"}),
            policy={"cooldown": 6},
            tokens=[{**token, "envs": ["stage"]}],
        ),
    )
    await apply(api, {"name": "shop-team", "prune": True})
    answer = await api.get("/audit")
    assert PASSWORD not in answer.text
    entries = answer.json()["items"]
    assert sorted((each["action"], each["target"]) for each in entries) == [
        ("create_project", "project"),
        ("create_token", "token"),
        ("create_user", "user"),
        ("delete_token", "token"),
        ("retire_user", "user"),
        ("update_project", "project"),
        ("update_token", "token"),
        ("update_user", "user"),
    ]
    assert {each["details"]["configuration"] for each in entries} == {"shop-team"}
    history = (await api.get(f"/users/{(await users(api))[0]['id']}/history")).json()["items"]
    assert [each["action"] for each in history] == ["retire_user", "update_user", "create_user"]


async def test_one_bad_user_among_a_thousand_is_named_and_nothing_is_done(api: httpx.AsyncClient) -> None:
    many = [user(f"user-{number}@shop.test") for number in range(1_000)]
    for wrong, where, code in (
        ({"login": "no address"}, "projects.0.users.700.login", "invalid"),
        ({"env": "staging"}, "projects.0.users.700.env", "unknown"),
        ({"login": "USER-3@shop.test"}, "projects.0.users.700.login", "duplicate"),
        ({"labels": {"a": 1}}, "projects.0.users.700.labels.a", "string_type"),
        ({"pasword": "x"}, "projects.0.users.700.pasword", "extra_forbidden"),
    ):
        body = file(*many[:700], {**many[700], **wrong}, *many[701:])
        answer = await api.post("/config/apply", json={**body, "fingerprint": "any"})
        errors = assert_problem(answer, 422, "invalid-request")["errors"]
        assert [(each["field"], each["code"]) for each in errors] == [(where, code)]
    without = file(*many[:700], {"login": "anna@shop.test", "env": "stage"}, *many[701:])
    fingerprint = (await plan(api, without))["fingerprint"]
    answer = await api.post("/config/apply", json={**without, "fingerprint": fingerprint})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [
        ("projects.0.users.700.password", "missing")
    ]
    assert (await api.get("/projects")).json()["items"] == []
    assert await users(api) == []


async def test_a_thousand_users_are_made_at_once(api: httpx.AsyncClient) -> None:
    applied = await apply(api, file(*(user(f"user-{number}@shop.test") for number in range(1_001))))
    assert len(applied["changes"]) == 1_002
    assert len((await api.get("/users", params={"limit": 1000})).json()["items"]) == 1_000


async def test_a_leased_user_does_not_move_to_another_domain(api: httpx.AsyncClient) -> None:
    await apply(api, file(user("anna@shop.test")))
    lease = (await api.post("/leases", json={"project": "shop", "env": "stage"})).json()
    moved = file(user("anna@shop.test", domain="canary", labels={"a": "b"}))
    fingerprint = (await plan(api, moved))["fingerprint"]
    answer = await api.post("/config/apply", json={**moved, "fingerprint": fingerprint})
    assert assert_problem(answer, 422, "invalid-request")["errors"][0]["code"] == "user-busy"
    assert (await users(api))[0]["labels"] == {}
    await apply(api, file(user("anna@shop.test", labels={"a": "b"})))
    await api.post(f"/leases/{lease['id']}/release")
    await apply(api, moved)
    assert (await users(api))[0]["domain"] == "canary"


@pytest.mark.parametrize(
    ("role", "envs", "wanted", "field", "code"),
    [
        ("manager", ["*"], {"policy": {"cooldown": 1}}, "projects.0", "forbidden"),
        ("admin", ["stage"], {"policy": {"cooldown": 1}}, "projects.0", "forbidden"),
        ("manager", ["prod"], {}, "projects.0.users.0.env", "forbidden"),
        ("manager", ["*"], {"name": "new"}, "projects.0.name", "no-such-project"),
        ("admin", ["*"], {"name": "elsewhere"}, "projects.0.name", "no-such-project"),
    ],
)
async def test_nobody_does_by_a_file_what_the_role_and_scope_do_not_allow(
    api: httpx.AsyncClient, role: str, envs: list[str], wanted: Json, field: str, code: str
) -> None:
    await apply(api, file())
    await create_project(api, name="elsewhere")
    caller = {"name": "caller", "role": role, "projects": ["shop"], "envs": envs}
    token = (await api.post("/tokens", json=caller)).json()["token"]
    body = file(user("anna@shop.test"))
    body["projects"][0] |= wanted
    answer = await api.post("/config/plan", json=body, headers={"Authorization": f"Bearer {token}"})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [(field, code)]


@pytest.mark.parametrize(
    ("wanted", "field", "code"),
    [
        ({"projects": ["*"]}, "tokens.0", "forbidden"),
        ({"envs": ["*"], "projects": ["elsewhere"]}, "tokens.0.projects", "no-such-project"),
        ({"max_leases": None}, "tokens.0.max_leases", "forbidden"),
    ],
)
async def test_a_file_makes_no_token_that_exceeds_its_maker(
    api: httpx.AsyncClient, wanted: Json, field: str, code: str
) -> None:
    await apply(api, file())
    caller = {"name": "caller", "role": "admin", "projects": ["shop"], "envs": ["*"], "max_leases": 5}
    maker = (await api.post("/tokens", json=caller)).json()["token"]
    token = {"name": "ci", "role": "runner", "projects": ["shop"], "envs": ["*"], "max_leases": 5, **wanted}
    body = {"name": "x", "tokens": [token]}
    answer = await api.post("/config/plan", json=body, headers={"Authorization": f"Bearer {maker}"})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert (field, code) in [(each["field"], each["code"]) for each in errors]


async def test_a_manager_applies_the_users_of_its_project_and_env(api: httpx.AsyncClient) -> None:
    await apply(api, file())
    caller = {"name": "caller", "role": "manager", "projects": ["shop"], "envs": ["stage"]}
    token = (await api.post("/tokens", json=caller)).json()["token"]
    api.headers["Authorization"] = f"Bearer {token}"
    applied = await apply(api, {**file(user("anna@shop.test")), "name": "a-team"})
    assert deeds(applied) == [("user", "anna@shop.test", "create")]


async def test_envs_and_domains_are_those_of_the_project_in_the_file(api: httpx.AsyncClient) -> None:
    wanted = file(user("anna@shop.test", env="qa1"), user("ben@shop.test", env="uat", domain="vip"))
    wanted["projects"][0] |= {"envs": ["qa1", "uat"], "domains": ["staff", "vip"]}
    await apply(api, wanted)
    project = (await api.get("/projects")).json()["items"][0]
    assert (project["envs"], project["domains"]) == (["qa1", "uat"], ["staff", "vip"])
    assert {each["login"]: each["domain"] for each in await users(api)} == {
        "anna@shop.test": "staff",
        "ben@shop.test": "vip",
    }
    wanted["projects"][0] |= {"envs": ["qa1", "uat", "qa2"]}
    wanted["projects"][0]["users"].append(user("carl@shop.test", env="qa2"))
    planned = await plan(api, wanted)
    assert planned["changes"][0]["differences"] == [
        {"field": "envs", "before": ["qa1", "uat"], "after": ["qa1", "uat", "qa2"]}
    ]
    await apply(api, wanted)
    assert len(await users(api)) == 3


@pytest.mark.parametrize(
    ("project", "wanted", "field", "code"),
    [
        ({}, {"env": "qa1"}, "projects.0.users.0.env", "unknown"),
        ({}, {"domain": "vip"}, "projects.0.users.0.domain", "unknown"),
        ({"envs": ["qa1"]}, {}, "projects.0.users.0.env", "unknown"),
        ({"domains": ["vip"]}, {"domain": "regular"}, "projects.0.users.0.domain", "unknown"),
    ],
)
async def test_a_user_is_in_an_env_and_domain_of_its_project(
    api: httpx.AsyncClient, project: Json, wanted: Json, field: str, code: str
) -> None:
    body = file(user("anna@shop.test", **wanted))
    body["projects"][0] |= project
    for exists in (False, True):
        if exists:
            await apply(api, file())
        answer = await api.post("/config/plan", json=body)
        errors = assert_problem(answer, 422, "invalid-request")["errors"]
        assert [(each["field"], each["code"]) for each in errors] == [(field, code)]


async def test_an_env_with_users_does_not_go(api: httpx.AsyncClient) -> None:
    await apply(api, file(user("anna@shop.test")))
    body = file()
    body["projects"][0] |= {"envs": ["prod"]}
    fingerprint = (await plan(api, body))["fingerprint"]
    answer = await api.post("/config/apply", json={**body, "fingerprint": fingerprint})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [("projects.0", "project-in-use")]


async def test_a_caller_of_some_envs_sees_no_other_ones(api: httpx.AsyncClient) -> None:
    await create_project(api, envs=["stage", "secret-env"])
    caller = {"name": "caller", "role": "manager", "projects": ["shop"], "envs": ["stage"]}
    token = (await api.post("/tokens", json=caller)).json()["token"]
    api.headers["Authorization"] = f"Bearer {token}"
    body = file(user("anna@shop.test", env="stage"))
    body["projects"][0] |= {"envs": ["stage"]}
    for wanted in (body, {**body, "adopt": True}, file(user("anna@shop.test", domain="x"))):
        answer = await api.post("/config/plan", json=wanted)
        assert "secret-env" not in answer.text


async def test_the_file_says_what_logins_of_a_project_may_be(api: httpx.AsyncClient) -> None:
    phone = file(user("+49 170 1234567"))
    answer = await api.post("/config/plan", json=phone)
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [("projects.0.users.0.login", "invalid")]
    phone["projects"][0]["logins"] = "any"
    await apply(api, phone)
    assert [each["login"] for each in await users(api)] == ["+49 170 1234567"]
    stricter = file(user("+49 170 1234567"))
    stricter["projects"][0]["logins"] = "email"
    await apply(api, stricter)  # a user that is there keeps its login
    assert deeds(await plan(api, stricter)) == []
