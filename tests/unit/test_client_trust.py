from typing import Any

import pytest

from support.fake_farm import PROJECT_ID, FakeFarm, problem

GITHUB = "https://token.actions.githubusercontent.com"
RULE: dict[str, Any] = {
    "id": "22222222-2222-4222-8222-222222222222",
    "name": "shop-ci",
    "issuer": GITHUB,
    "claims": {"repository_id": "7301", "ref": "refs/heads/main"},
    "role": "runner",
    "projects": [PROJECT_ID],
    "envs": ["stage"],
    "max_leases": 4,
    "max_leases_of_all": None,
    "token_ttl": 3_600,
    "once": True,
    "created_at": "2026-11-23T15:00:00Z",
    "created_by": "operator:ada",
}
ADD = ("trust", "add", "shop-ci", "--issuer", "github", "--claim", "repository_id=7301")
SCOPE = ("--project", "shop", "--env", "stage")


def farm_with(*rules: dict[str, Any]) -> FakeFarm:
    ends: dict[str, object] = {f"DELETE /trust-rules/{rule['id']}": None for rule in rules}
    return FakeFarm({"GET /trust-rules": {"items": rules}, "POST /trust-rules": RULE, **ends})


def test_a_rule_is_what_was_said_and_the_job_s_part_is_named() -> None:
    farm = farm_with()
    limits = ("--max-leases", "4", "--max-leases-of-all", "9", "--token-ttl", "2h", "--role", "keeper")
    added = farm.run(*ADD, "--claim", "ref=refs/heads/*", *SCOPE, "--env", "prod", *limits, "--reuse")
    assert added.out == f"Runs with these claims get a token now: shop-ci with the id {RULE['id']}.\n"
    assert "id-token: write" in added.err
    assert farm.body_of("POST /trust-rules") == {
        "name": "shop-ci",
        "issuer": GITHUB,
        "claims": {"repository_id": "7301", "ref": "refs/heads/*"},
        "role": "keeper",
        "projects": ["shop"],
        "envs": ["stage", "prod"],
        "token_ttl": 7_200,
        "once": False,
        "max_leases": 4,
        "max_leases_of_all": 9,
    }


def test_a_rule_with_the_least_is_for_a_runner_and_takes_a_token_once() -> None:
    farm = farm_with()
    assert farm.run(*ADD, *SCOPE, "--json").json == RULE
    body = farm.body_of("POST /trust-rules")
    assert (body["role"], body["once"]) == ("runner", True)
    assert not body.keys() & {"max_leases", "max_leases_of_all", "token_ttl"}


def test_a_rule_of_gitlab_is_told_that_its_jobs_have_one_token() -> None:
    add = ("trust", "add", "x", "--issuer", "gitlab", "--claim", "project_id=20", *SCOPE)
    farm = farm_with()
    assert "--reuse" in farm.run(*add).err
    assert farm.body_of("POST /trust-rules")["issuer"] == "https://gitlab.com"
    assert "--reuse" not in farm_with().run(*add, "--reuse").err


@pytest.mark.parametrize(
    "arguments",
    [
        SCOPE[:2],
        (*SCOPE, "--project", "*"),
        (*SCOPE, "--role", "admin"),
        (*SCOPE, "--max-leases", "0"),
        (*SCOPE, "--token-ttl", "a day"),
        (*SCOPE, "--claim", "no-value"),
    ],
)
def test_an_impossible_rule_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    farm = farm_with()
    farm.run(*ADD, *arguments, exit_code=2)
    assert not farm.requests


def test_a_rule_that_the_farm_refuses_is_one_line() -> None:
    errors = [{"field": "claims", "code": "invalid", "message": "must have repository_id"}]
    answer = problem(422, "invalid-request", "The request is invalid.", errors=errors)
    refused = FakeFarm({"POST /trust-rules": answer}).run(*ADD, *SCOPE, exit_code=1)
    assert refused.err.count("\n") == 1
    assert "repository_id" in refused.err


def test_rules_are_listed_with_their_claims_and_the_names_of_their_projects() -> None:
    farm = farm_with(RULE, {**RULE, "name": "all", "projects": ["*"], "once": False})
    header, first, second = farm.run("trust", "list").out.splitlines()
    assert header.split()[:5] == ["NAME", "ISSUER", "CLAIMS", "ROLE", "PROJECTS"]
    assert first.split()[:6] == [
        "shop-ci",
        GITHUB,
        "ref=refs/heads/main,",
        "repository_id=7301",
        "runner",
        "shop",
    ]
    assert first.split()[-1] == "yes"
    assert second.split()[-1] == "no"
    assert farm.run("trust", "list", "--json").json["items"][0] == RULE


@pytest.mark.parametrize("given", ["shop-ci", RULE["id"]])
def test_a_rule_is_removed_by_its_name_or_id(given: str) -> None:
    farm = farm_with(RULE)
    assert farm.run("trust", "remove", given, "--yes").out == "Removed the trust rule shop-ci.\n"
    assert farm.asked == ["GET /trust-rules", f"DELETE /trust-rules/{RULE['id']}"]
    assert farm_with(RULE).run("trust", "remove", given, "--yes", "--json").json == {
        "id": RULE["id"],
        "removed": True,
    }


def test_without_confirmation_nothing_is_removed() -> None:
    farm = farm_with(RULE)
    assert "--yes" in farm.run("trust", "remove", "shop-ci", exit_code=2).err
    assert farm.asked == ["GET /trust-rules"]


def test_a_rule_that_is_not_there_is_no_such_thing() -> None:
    missing = farm_with(RULE).run("trust", "remove", "other", "--yes", exit_code=4)
    assert "botfarm trust list" in missing.err
