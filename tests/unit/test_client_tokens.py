from typing import Any

import pytest

from botfarm.domain.access import Role
from support.fake_farm import PROJECT_ID, FakeFarm, problem

SECRET = "bf_t1_c2VjcmV0"
TOKEN: dict[str, Any] = {
    "id": "t1",
    "name": "ci",
    "role": "runner",
    "projects": [PROJECT_ID],
    "envs": ["stage", "preprod"],
    "max_leases": 4,
    "created_at": "2026-11-23T15:00:00Z",
    "created_by": "operator:ada",
    "expires_at": "2999-01-01T00:00:00Z",
    "revoked_at": None,
    "last_used_at": None,
}
REVOKED = {**TOKEN, "id": "t2", "revoked_at": "2026-11-24T15:00:00Z"}
EXPIRED = {**TOKEN, "id": "t3", "expires_at": "2020-01-01T00:00:00Z"}
CREATE = ("tokens", "create", "ci", "--role", "runner", "--project")


def farm_with(*tokens: dict[str, Any]) -> FakeFarm:
    ends: dict[str, object] = {f"DELETE /tokens/{token['id']}": None for token in tokens}
    return FakeFarm({"GET /tokens": {"items": tokens}, "POST /tokens": {**TOKEN, "token": SECRET}, **ends})


def test_a_new_token_is_alone_on_standard_output() -> None:
    farm = farm_with()
    limits = ("--max-leases", "4", "--expires-in", "90d")
    created = farm.run(*CREATE, "shop", "--project", PROJECT_ID, "--env", "stage", "--env", "prod", *limits)
    assert created.out == f"{SECRET}\n"
    assert "shown this once" in created.err
    assert "botfarm tokens revoke t1" in created.err
    assert SECRET not in created.err
    assert farm.body_of("POST /tokens") == {
        "name": "ci",
        "role": "runner",
        "projects": ["shop", PROJECT_ID],
        "envs": ["stage", "prod"],
        "max_leases": 4,
        "expires_in": 90 * 86_400,
    }


@pytest.mark.parametrize("role", Role)
def test_a_token_may_have_every_role_of_the_farm(role: Role) -> None:
    farm = farm_with()
    farm.run("tokens", "create", "ci", "--role", role, "--project", "shop", "--env", "stage")
    assert farm.body_of("POST /tokens")["role"] == role


def test_a_token_for_everything_says_only_what_was_said() -> None:
    farm = farm_with()
    created = farm.run(*CREATE, "*", "--env", "*", "--json")
    assert created.json == {**TOKEN, "token": SECRET}
    assert farm.body_of("POST /tokens") == {
        "name": "ci",
        "role": "runner",
        "projects": ["*"],
        "envs": ["*"],
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ("shop",),
        ("shop", "--project", "*", "--env", "stage"),
        ("shop", "--env", "stage", "--env", "*"),
        ("shop", "--env", "stage", "--max-leases", "0"),
        ("shop", "--env", "stage", "--expires-in", "a year"),
    ],
)
def test_an_impossible_token_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    farm = farm_with()
    farm.run(*CREATE, *arguments, exit_code=2)
    assert not farm.requests


def test_tokens_are_listed_with_the_names_of_their_projects() -> None:
    everywhere = {**TOKEN, "id": "t4", "projects": ["*"], "envs": ["*"], "expires_at": None}
    used = {**everywhere, "id": "t5", "last_used_at": "2020-01-01T00:00:00Z", "max_leases": None}
    farm = farm_with(TOKEN, REVOKED, used)
    header, live, revoked, other = farm.run("tokens", "list").out.splitlines()
    assert header.split() == ["NAME", "ROLE", "PROJECTS", "ENVS", "MAX", "LEASES", "USED", "ENDS", "ID"]
    assert live.split()[:7] == ["ci", "runner", "shop", "stage,", "preprod", "4", "never"]
    assert " in " in live
    assert "revoked " in revoked
    assert "ago" in other
    assert farm.run("tokens", "list", "--json").json == {"items": [TOKEN, REVOKED, used]}


def test_the_tokens_that_somebody_made_are_asked_for() -> None:
    farm = farm_with(TOKEN)
    farm.run("tokens", "list", "--created-by", "token:admin:t9", "--json")
    assert dict(farm.requests[-1].url.params) == {"created_by": "token:admin:t9"}
    farm.run("tokens", "list", "--json")
    assert not farm.requests[-1].url.params


@pytest.mark.parametrize("given", ["t1", "ci"])
def test_a_token_is_revoked_by_its_id_and_by_the_name_that_only_it_has_and_lives(given: str) -> None:
    farm = farm_with(REVOKED, TOKEN, EXPIRED)
    assert farm.run("tokens", "revoke", given, "--yes").out == "Revoked the token ci with the id t1.\n"
    assert farm.asked == ["GET /tokens", "DELETE /tokens/t1"]


def test_revoking_twice_is_fine() -> None:
    farm = farm_with(REVOKED)
    for given in ("ci", "t2"):
        assert farm.run("tokens", "revoke", given, "--json").json == {"id": "t2", "revoked": True}
    newer = {**REVOKED, "id": "t9", "created_at": "2026-11-25T00:00:00Z"}
    assert farm_with(newer, REVOKED).run("tokens", "revoke", "ci", "--json").json["id"] == "t9"


def test_a_name_of_several_live_tokens_revokes_none() -> None:
    farm = farm_with(TOKEN, {**TOKEN, "id": "t7"})
    refused = farm.run("tokens", "revoke", "ci", "--yes", exit_code=1)
    assert "by its id" in refused.err
    assert farm.asked == ["GET /tokens"]


def test_without_confirmation_nothing_is_revoked() -> None:
    farm = farm_with(TOKEN)
    assert "--yes" in farm.run("tokens", "revoke", "ci", exit_code=2).err
    assert farm.asked == ["GET /tokens"]


def test_a_token_that_is_taken_for_an_id_is_not_repeated() -> None:
    refused = farm_with(TOKEN).run("tokens", "revoke", SECRET, "--yes", exit_code=4)
    assert SECRET not in refused.out + refused.err
    assert "botfarm tokens list" in refused.err


def test_a_role_that_does_not_suffice_is_told_the_way_out() -> None:
    farm = FakeFarm({"GET /tokens": problem(403, "forbidden", "This needs the role admin.")})
    line = farm.run("tokens", "list", exit_code=1).err
    assert line.startswith("botfarm: This needs the role admin: set BOTFARM_TOKEN")
