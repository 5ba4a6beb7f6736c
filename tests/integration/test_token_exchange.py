"""The token exchange: a run of a CI shows what its CI has signed, and gets a token for as long as it runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from botfarm.services.trust.failure_limit import FAILURES
from support.app import api_client
from support.farm import open_farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.issuer import AUDIENCE, GITLAB, Issuer, signing_key

FORM = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
}
RULE = {
    "name": "shop-ci",
    "issuer": "https://ci.test",
    "claims": {"repository_id": "7301"},
    "projects": ["shop"],
    "envs": ["stage"],
}


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
async def api(database_url: str, tmp_path: Path, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """A farm that has the issuer's keys in a folder, and a project with two users."""
    (tmp_path / "ci.test.json").write_text(json.dumps(issuer.jwks()))
    settings = test_settings(database_url, public_url=AUDIENCE, oidc_keys_dir=tmp_path)
    async with api_client(settings) as client:
        project = await create_project(client)
        for _ in range(2):
            await create_user(client, project)
        yield client


async def trust(api: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await api.post("/trust-rules", json={**RULE, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def exchange(api: httpx.AsyncClient, token: str, **fields: str) -> httpx.Response:
    form = {**FORM, "subject_token": token, **fields}
    return await api.post("/auth/token", data=form, headers={"Authorization": ""})


async def run_headers(api: httpx.AsyncClient, token: str) -> dict[str, str]:
    answer = await exchange(api, token)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def held_by(api: httpx.AsyncClient, principal: str) -> list[str]:
    listed = await api.get("/leases", params={"principal": principal})
    return [lease["id"] for lease in listed.json()["items"]]


async def reasons(api: httpx.AsyncClient) -> list[str]:
    entries = (await api.get("/audit", params={"action": "exchange_failed"})).json()["items"]
    return [entry["details"]["reason"] for entry in entries]


async def test_a_run_gets_a_token_and_its_lease_says_what_the_ci_has_signed(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    rule = await trust(api)
    answer = await exchange(api, issuer.token())
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    assert given | {"access_token": ""} == {
        "access_token": "",
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        "expires_in": 3_600,
    }
    made_up = {"owner": "tests/test_pay.py", "metadata": {"job_url": "https://evil.test", "suite": "pay"}}
    headers = {"Authorization": f"Bearer {given['access_token']}"}
    lease = (await api.post("/leases", json={**LEASE, **made_up}, headers=headers)).json()
    assert await held_by(api, "ci:shop-ci:88001.1") == [lease["id"]]
    assert lease["owner"] == "github acme/shop e2e #57"
    assert lease["metadata"]["job_url"].endswith("/acme/shop/actions/runs/88001/attempts/1")
    assert lease["metadata"]["runner"] == "tests/test_pay.py"
    assert lease["metadata"]["suite"] == "pay"
    assert lease["users"][0]["password"]
    (entry,) = (await api.get("/audit", params={"action": "exchange_token"})).json()["items"]
    assert (entry["principal"], entry["target_id"]) == ("ci:shop-ci:88001.1", rule["id"])
    assert_problem(await api.get("/tokens", headers=headers), 403, "forbidden")
    elsewhere = await api.post("/leases", json={**LEASE, "env": "prod"}, headers=headers)
    assert_problem(elsewhere, 404, "no-such-pool")


async def test_runs_cannot_release_each_others_users_and_a_renewed_token_goes_on(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    await trust(api)
    first = await run_headers(api, issuer.token(jti="1"))
    lease = (await api.post("/leases", json=LEASE, headers=first)).json()
    other_run = await run_headers(api, issuer.token(jti="2", run_id="88002"))
    other_attempt = await run_headers(api, issuer.token(jti="3", run_attempt="2"))
    for headers in (other_run, other_attempt):
        refused = await api.post(f"/leases/{lease['id']}/release", headers=headers)
        assert_problem(refused, 403, "not-the-holder")
        assert "password" not in json.dumps((await api.get(f"/leases/{lease['id']}", headers=headers)).json())
    renewed = await run_headers(api, issuer.token(jti="4"))
    assert renewed != first
    assert (await api.post(f"/leases/{lease['id']}/renew", headers=renewed)).status_code == 200
    assert (await api.post(f"/leases/{lease['id']}/release", headers=renewed)).status_code == 200


async def test_two_jobs_of_gitlab_are_two_principals(api: httpx.AsyncClient, issuer: Issuer) -> None:
    await trust(api, claims={"project_id": "20"}, once=False)
    first = await run_headers(api, issuer.token(GITLAB))
    again = await run_headers(api, issuer.token(GITLAB))
    other = await run_headers(api, issuer.token(GITLAB, job_id="303"))
    lease = (await api.post("/leases", json=LEASE, headers=first)).json()
    assert await held_by(api, "ci:shop-ci:302") == [lease["id"]]
    refused = await api.post(f"/leases/{lease['id']}/release", headers=other)
    assert_problem(refused, 403, "not-the-holder")
    assert (await api.post(f"/leases/{lease['id']}/release", headers=again)).status_code == 200


async def test_each_run_has_a_quota_and_the_rule_one_for_all_its_runs(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    project = (await api.get("/projects")).json()["items"][0]["id"]
    for _ in range(2):
        await create_user(api, project)
    await trust(api, max_leases=2, max_leases_of_all=3)
    first = await run_headers(api, issuer.token(jti="1"))
    other = await run_headers(api, issuer.token(jti="2", run_id="88002"))
    for headers in (first, first, other):
        assert (await api.post("/leases", json=LEASE, headers=headers)).status_code == 201
    own = assert_problem(await api.post("/leases", json=LEASE, headers=first), 429, "quota-exceeded")
    assert own["max_leases"] == 3
    of_all = assert_problem(await api.post("/leases", json=LEASE, headers=other), 429, "quota-exceeded")
    assert (of_all["held"], of_all["max_leases"]) == (3, 3)
    assert "together" in of_all["detail"]


async def test_the_last_place_of_a_rule_goes_to_one_of_two_runs(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    await trust(api, max_leases_of_all=1)
    runs = [await run_headers(api, issuer.token(jti=n, run_id=n)) for n in ("1", "2")]
    answers = await asyncio.gather(*(api.post("/leases", json=LEASE, headers=headers) for headers in runs))
    assert sorted(answer.status_code for answer in answers) == [201, 429]


async def test_a_token_of_the_ci_is_exchanged_once(api: httpx.AsyncClient, issuer: Issuer) -> None:
    await trust(api)
    token = issuer.token()
    answers = await asyncio.gather(*(exchange(api, token) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400, 400]
    without_id = issuer.token(jti=None)
    answers = [await exchange(api, without_id) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert set(await reasons(api)) == {"exchanged before"}


async def test_every_refusal_is_one_text_outside_and_one_reason_in_the_audit(
    api: httpx.AsyncClient, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    await trust(api)
    wrong = {
        "another audience": issuer.token(aud="https://elsewhere.test"),
        "expired": issuer.token(exp=1_000_000),
        "unknown key": issuer.token(key=signing_key("second")),
        "bad signature": issuer.token(key=signing_key("second"), header={"kid": "first"}),
        "no trust rule has this issuer": issuer.token(iss="https://elsewhere.test"),
        "the claim repository_id is not as the rule wants": issuer.token(repository_id="7302"),
        "the run has no usable id": issuer.token(run_id="a b", job_id=None),
        "not a JWT": "secret-that-is-no-token",
    }
    for reason, token in wrong.items():
        answer = await exchange(api, token)
        assert answer.status_code == 400
        assert answer.json() == {
            "error": "invalid_grant",
            "error_description": "The identity token is refused; the farm's audit has the reason.",
        }
        assert (await reasons(api))[0] == reason
    told = (await api.get("/audit")).text + caplog.text
    for token in wrong.values():
        assert token not in told
        assert not any(part in told for part in token.split(".") if len(part) > 12)


async def test_the_form_says_what_is_wrong_with_it(api: httpx.AsyncClient, issuer: Issuer) -> None:
    await trust(api)
    token = issuer.token()
    for fields in (
        {"grant_type": "client_credentials"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"subject_token": ""},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
    ):
        answer = await exchange(api, token, **fields)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    elsewhere = await exchange(api, token, audience="https://elsewhere.test")
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (400, "invalid_target")
    assert_problem(await api.post("/auth/token", json=FORM), 415, "unsupported-media-type")
    assert_problem(await exchange(api, "x" * 40_000), 413, "too-large")
    raw = {
        "content": b"%ff%fe\x00&&&=;subject_token",
        "headers": {"content-type": "application/x-www-form-urlencoded"},
    }
    assert (await api.post("/auth/token", **raw)).status_code == 400
    further = await exchange(api, token, audience=f"{AUDIENCE}/", scope="anything")
    assert further.status_code == 200


async def test_a_flood_is_held_back_and_does_not_lock_out_a_good_run_behind_the_same_address(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    await trust(api)
    for _ in range(FAILURES):
        assert (await exchange(api, issuer.token(repository_id="7302"))).status_code == 400
    held_back = await exchange(api, issuer.token(repository_id="7302"))
    assert_problem(held_back, 429, "slow-down")
    assert 1 <= int(held_back.headers["retry-after"]) <= 60
    assert len(await reasons(api)) == FAILURES
    assert (await exchange(api, issuer.token())).status_code == 200


async def test_a_deleted_rule_ends_its_tokens_and_gives_no_others(
    api: httpx.AsyncClient, issuer: Issuer
) -> None:
    rule = await trust(api)
    headers = await run_headers(api, issuer.token(jti="1"))
    lease = (await api.post("/leases", json=LEASE, headers=headers)).json()
    assert (await api.delete(f"/trust-rules/{rule['id']}")).status_code == 204
    assert_problem(await api.delete(f"/trust-rules/{rule['id']}"), 404, "no-such-trust-rule")
    assert (await exchange(api, issuer.token(jti="2"))).status_code == 400
    async with asyncio.timeout(15):
        while (await api.get("/pools", headers=headers)).status_code != 401:
            await asyncio.sleep(0.05)
    assert (await api.get(f"/leases/{lease['id']}")).json()["ended_at"] is None
    await trust(api)  # of the same name: its runs go on with what they hold
    renewed = await run_headers(api, issuer.token(jti="3"))
    assert (await api.post(f"/leases/{lease['id']}/release", headers=renewed)).status_code == 200


async def test_a_rule_of_names_alone_is_refused_at_its_claims(api: httpx.AsyncClient) -> None:
    refused = await api.post("/trust-rules", json={**RULE, "claims": {"repository": "acme/shop"}})
    (error,) = assert_problem(refused, 422, "invalid-request")["errors"]
    assert error["field"] == "claims"
    assert error["message"].startswith("must have ")


async def test_rules_are_listed_by_name_within_the_callers_scope(api: httpx.AsyncClient) -> None:
    await create_project(api, name="other")
    await trust(api, name="b", projects=["*"], envs=["*"])
    ours = await trust(api, name="a")
    assert_problem(await api.post("/trust-rules", json={**RULE, "name": "a"}), 409, "trust-rule-exists")
    assert_problem(
        await api.post("/trust-rules", json={**RULE, "projects": ["nowhere"]}), 404, "no-such-project"
    )
    shown = (await api.get("/trust-rules")).json()["items"]
    assert [rule["name"] for rule in shown] == ["a", "b"]
    assert shown[0] == ours
    admin = {"name": "admin", "role": "admin", "projects": ["shop"], "envs": ["stage"], "max_leases": 2}
    token = (await api.post("/tokens", json=admin)).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert [rule["name"] for rule in (await api.get("/trust-rules", headers=headers)).json()["items"]] == [
        "a"
    ]
    wide = await api.post("/trust-rules", json={**RULE, "name": "c", "envs": ["*"]}, headers=headers)
    assert_problem(wide, 403, "forbidden")
    many = await api.post("/trust-rules", json={**RULE, "name": "c"}, headers=headers)
    assert_problem(many, 403, "forbidden")
    within = await api.post("/trust-rules", json={**RULE, "name": "c", "max_leases": 2}, headers=headers)
    assert within.status_code == 201
    assert_problem(
        await api.delete(f"/trust-rules/{shown[1]['id']}", headers=headers), 404, "no-such-trust-rule"
    )


async def test_a_farm_without_a_public_url_refuses_and_says_so_in_the_audit(
    database_url: str, issuer: Issuer
) -> None:
    async with api_client(test_settings(database_url)) as api:
        assert (await exchange(api, issuer.token())).status_code == 400
        assert await reasons(api) == ["BOTFARM_PUBLIC_URL is not set"]


async def test_expired_tokens_of_runs_are_pruned(
    api: httpx.AsyncClient, issuer: Issuer, database_url: str
) -> None:
    await trust(api)
    await run_headers(api, issuer.token(jti="1"))
    async with open_farm(database_url) as farm:
        stop = asyncio.Event()
        assert await farm.services.maintenance.prune_run_tokens(stop) == 0
        for table in ("run_tokens", "spent_identity_tokens"):
            await farm.sql.execute(f"UPDATE {table} SET expires_at = clock_timestamp() - interval '1 second'")
        assert await farm.services.maintenance.prune_run_tokens(stop) == 2
