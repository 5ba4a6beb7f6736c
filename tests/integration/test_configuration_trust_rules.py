"""Trust rules of a file: made, replaced, adopted and pruned; the runs of a rule keep their leases."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from support.app import api_client
from support.configuration import Json, apply, deeds, plan
from support.farm import PASSWORD, test_settings
from support.http import assert_problem, create_project, create_user
from support.issuer import AUDIENCE, Issuer

ISSUER = Issuer()
RULE: Json = {
    "name": "ci",
    "issuer": ISSUER.url,
    "claims": {"repository_id": "7301"},
    "projects": ["shop"],
    "envs": ["stage"],
}


@pytest.fixture
async def api(database_url: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    (tmp_path / "ci.test.json").write_text(json.dumps(ISSUER.jwks()))
    settings = test_settings(database_url, public_url=AUDIENCE, oidc_keys_dir=tmp_path)
    async with api_client(settings) as client:
        yield client


def file(*rules: Json, **fields: Any) -> Json:
    user = {"login": "anna@shop.test", "env": "stage", "password": PASSWORD}
    return {
        "name": "shop-team",
        "projects": [{"name": "shop", "users": [user]}],
        "trust_rules": list(rules),
        **fields,
    }


async def rules(api: httpx.AsyncClient) -> list[Json]:
    return list((await api.get("/trust-rules")).json()["items"])


async def exchange(api: httpx.AsyncClient) -> httpx.Response:
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": ISSUER.token(jti=str(uuid4())),
    }
    return await api.post("/auth/token", data=form)


async def run_headers(api: httpx.AsyncClient) -> dict[str, str]:
    answer = await exchange(api)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_rule_of_a_file_lets_its_runs_in_and_then_there_is_nothing_to_do(
    api: httpx.AsyncClient,
) -> None:
    assert (await exchange(api)).status_code == 400  # so that the rules are kept in memory
    planned = await plan(api, file(RULE))
    assert deeds(planned)[-1] == ("trust_rule", "ci", "create")
    assert await rules(api) == []
    await apply(api, file(RULE))
    (made,) = await rules(api)
    assert (made["managed_by"], made["role"], made["token_ttl"], made["once"]) == (
        "shop-team", "runner", 3_600, True,
    )  # fmt: skip
    lease = await api.post(
        "/leases", json={"project": "shop", "env": "stage"}, headers=await run_headers(api)
    )
    assert lease.json()["users"][0]["login"] == "anna@shop.test"
    assert deeds(await plan(api, file(RULE))) == []


async def test_a_rule_that_differs_is_replaced_and_its_runs_keep_their_leases(api: httpx.AsyncClient) -> None:
    await apply(api, file({**RULE, "max_leases": 5}))
    before, headers = (await rules(api))[0]["id"], await run_headers(api)
    lease = (await api.post("/leases", json={"project": "shop", "env": "stage"}, headers=headers)).json()

    wanted = file({**RULE, "claims": {"repository_id": "7301", "ref": "refs/heads/main"}, "token_ttl": 60})
    planned = await plan(api, wanted)
    assert deeds(planned) == [("trust_rule", "ci", "update")]
    assert planned["changes"][0]["differences"] == [
        {"field": "claims.ref", "before": None, "after": "refs/heads/main"},
        {"field": "max_leases", "before": 5, "after": None},
        {"field": "token_ttl", "before": 3_600, "after": 60},
    ]
    await apply(api, wanted)
    (after,) = await rules(api)
    assert after["id"] != before
    assert (after["claims"]["ref"], after["max_leases"], after["token_ttl"]) == ("refs/heads/main", None, 60)
    renewed = await run_headers(api)
    assert (await api.get(f"/leases/{lease['id']}", headers=renewed)).json()["ended_at"] is None
    assert (await api.post(f"/leases/{lease['id']}/release", headers=renewed)).status_code == 200
    entries = (await api.get("/audit", params={"limit": 100})).json()["items"]
    said = [each for each in entries if each["action"].endswith("_trust_rule")]
    assert [(each["action"], each["target_id"]) for each in said] == [
        ("create_trust_rule", after["id"]),
        ("delete_trust_rule", before),
        ("create_trust_rule", before),
    ]
    assert {each["details"]["configuration"] for each in said} == {"shop-team"}
    assert said[0]["details"]["claims"] == {"repository_id": "7301", "ref": "refs/heads/main"}


async def test_a_rule_made_by_hand_is_left_alone_until_it_is_adopted(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login="anna@shop.test")
    await api.post("/trust-rules", json=RULE)
    (by_hand,) = await rules(api)
    changed = file({**RULE, "role": "keeper"}, prune=True)
    assert ("trust_rule", "not-managed") in [
        (each["thing"]["kind"], each["reason"]) for each in (await apply(api, changed))["left_alone"]
    ]
    assert await rules(api) == [by_hand]
    await apply(api, file(RULE, adopt=True))
    assert await rules(api) == [{**by_hand, "managed_by": "shop-team"}]  # and its tokens live on
    await apply(api, file({**RULE, "role": "keeper"}))
    (keeper,) = await rules(api)
    assert (keeper["role"], keeper["id"] != by_hand["id"]) == ("keeper", True)
    left = (await plan(api, file(RULE, name="other-team")))["left_alone"]
    assert left[-1]["reason"] == "managed-elsewhere"


async def test_pruning_deletes_the_rules_that_this_file_made(api: httpx.AsyncClient) -> None:
    await apply(api, file(RULE))
    await api.post("/trust-rules", json={**RULE, "name": "by-hand", "claims": {"repository_id": "1"}})
    headers = await run_headers(api)
    kept = await apply(api, file())
    assert (deeds(kept), [each["name"] for each in kept["unnamed"]]) == ([], ["ci"])
    assert (await api.get("/pools", headers=headers)).status_code == 200
    assert deeds(await apply(api, file(prune=True))) == [("trust_rule", "ci", "revoke")]
    assert [rule["name"] for rule in await rules(api)] == ["by-hand"]
    assert (await exchange(api)).status_code == 400


async def test_one_bad_rule_is_named_and_nothing_is_done(api: httpx.AsyncClient) -> None:
    for wrong, where, code in (
        ({"claims": {"sub": "repo:acme/shop"}}, "trust_rules.1.claims", "invalid"),
        ({"role": "admin"}, "trust_rules.1.role", "invalid"),
        ({"issuer": "http://ci.test"}, "trust_rules.1.issuer", "invalid"),
        ({"name": "ci"}, "trust_rules.1.name", "duplicate"),
        ({"projects": ["nowhere"]}, "trust_rules.1.projects", "no-such-project"),
    ):
        body = file(RULE, {**RULE, "name": "other", **wrong})
        answer = await api.post("/config/apply", json={**body, "fingerprint": "any"})
        errors = assert_problem(answer, 422, "invalid-request")["errors"]
        assert [(each["field"], each["code"]) for each in errors] == [(where, code)]
    assert (await api.get("/projects")).json()["items"] == []
    assert await rules(api) == []


@pytest.mark.parametrize(
    ("caller", "wanted", "field"),
    [
        ({"role": "manager"}, {}, "trust_rules.0"),
        ({"envs": ["prod"]}, {}, "trust_rules.0"),
        ({}, {"projects": ["*"]}, "trust_rules.0"),
        ({"max_leases": 5}, {}, "trust_rules.0.max_leases"),
    ],
)
async def test_a_file_makes_no_rule_that_exceeds_its_maker(
    api: httpx.AsyncClient, caller: Json, wanted: Json, field: str
) -> None:
    await apply(api, file())
    token = {"name": "caller", "role": "admin", "projects": ["shop"], "envs": ["*"], **caller}
    api.headers["Authorization"] = f"Bearer {(await api.post('/tokens', json=token)).json()['token']}"
    answer = await api.post("/config/plan", json={"name": "x", "trust_rules": [{**RULE, **wanted}]})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [(field, "forbidden")]


async def test_a_name_that_is_taken_outside_of_the_scope_is_an_error_of_its_place(
    api: httpx.AsyncClient,
) -> None:
    await apply(api, file())
    await create_project(api, name="elsewhere")
    await api.post("/trust-rules", json={**RULE, "projects": ["elsewhere"]})
    token = {"name": "caller", "role": "admin", "projects": ["shop"], "envs": ["*"]}
    api.headers["Authorization"] = f"Bearer {(await api.post('/tokens', json=token)).json()['token']}"
    body = {"name": "x", "trust_rules": [RULE]}
    fingerprint = (await plan(api, body))["fingerprint"]
    answer = await api.post("/config/apply", json={**body, "fingerprint": fingerprint})
    errors = assert_problem(answer, 422, "invalid-request")["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [("trust_rules.0.name", "trust-rule-exists")]
