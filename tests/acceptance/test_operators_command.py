"""`botfarm operators`, on a database and nothing else."""

import json
import re
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from botfarm.domain.access import Role
from support.farm import PASSWORD, open_farm
from support.postgres import served
from support.processes import run_botfarm

Operators = Callable[..., str]


@pytest.fixture
def operators(database_url: str) -> Operators:
    def run(*arguments: str, stdin: str = "", exit_code: int = 0) -> str:
        """The command's output, or the end of its complaint."""
        environment = {"BOTFARM_DATABASE_URL": served(database_url)}
        finished = run_botfarm("operators", *arguments, environment=environment, stdin=stdin)
        assert finished.returncode == exit_code, finished.stdout + finished.stderr
        assert "Traceback" not in finished.stderr
        assert not stdin or stdin not in finished.stdout + finished.stderr
        if exit_code == 1:
            (line,) = finished.stderr.splitlines()
            assert line.startswith("botfarm: ")
        return finished.stderr if exit_code else finished.stdout

    return run


def listed(operators: Operators) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(operators("list", "--json"))["items"]}


async def test_an_operators_life(operators: Operators, database_url: str) -> None:
    sql = await asyncpg.connect(database_url)
    project = await sql.fetchval(
        """INSERT INTO projects (id, name, default_ttl, max_ttl, max_hold, lock_delay, cooldown)
           VALUES (gen_random_uuid(), 'shop', 1, 1, 1, 0, 0) RETURNING id"""
    )
    assert "Added the operator root, admin." in operators(
        "add", "root", "--role", "admin", stdin=f"{PASSWORD}\n"
    )
    scope = ("--project", "shop", "--env", "stage", "--env", "preprod")
    operators("add", "ann", "--role", "viewer", *scope, stdin=PASSWORD)
    operators("add", "bob", "--role", "manager", "--project", str(project), "--env", "*", stdin=PASSWORD)
    found = listed(operators)
    shown = {name: (each["role"], each["projects"], each["envs"]) for name, each in found.items()}
    assert shown == {
        "ann": ("viewer", ["shop"], ["preprod", "stage"]),
        "bob": ("manager", ["shop"], ["*"]),
        "root": ("admin", ["*"], ["*"]),
    }
    assert not any(each["disabled_at"] for each in found.values())
    assert "DISABLED" in operators("list")

    assert "Disabled" in operators("disable", "ann")
    assert "already" in operators("disable", "ann")
    assert listed(operators)["ann"]["disabled_at"]
    assert "Enabled" in operators("enable", "ann")
    assert "not disabled" in operators("enable", "ann")
    assert not listed(operators)["ann"]["disabled_at"]
    before = await sql.fetchval("SELECT password_hash FROM operators WHERE name = 'ann'")
    assert "new password" in operators("set-password", "ann", stdin="another password\n")
    assert await sql.fetchval("SELECT password_hash FROM operators WHERE name = 'ann'") != before
    rows = await sql.fetch("SELECT action FROM audit WHERE target_id = 'ann' ORDER BY id")
    actions = ["add_operator", "disable_operator", "enable_operator", "set_operator_password"]
    assert [row["action"] for row in rows] == actions
    await sql.close()


async def test_the_tokens_that_an_operator_leaves_are_shown_and_revoked(
    operators: Operators, database_url: str
) -> None:
    operators("add", "ann", "--role", "admin", stdin=PASSWORD)
    async with open_farm(database_url) as farm:
        _, badge = await farm.services.sessions.login("ann", PASSWORD, address=None, request_id=None)
        ann, _ = await farm.services.sessions.authenticate(badge.jwt)
        made = await farm.services.tokens.create(
            ann, name="ci", role=Role.RUNNER, projects=None, envs=None, max_leases=None, expires_in=None
        )
    told = operators("disable", "ann")
    assert "--revoke-tokens" in told
    assert re.search(rf"^ci +runner +operator:ann +{made.token.id}$", told, re.MULTILINE)
    assert "Revoked 1 token" in operators("set-password", "ann", "--revoke-tokens", stdin="another password")
    assert "token" not in operators("disable", "ann", "--revoke-tokens")


def test_a_mistake_is_answered_with_one_line_and_the_way_out(operators: Operators) -> None:
    everything = ("--project", "*", "--env", "*")
    operators("add", "ann", "--role", "viewer", *everything, stdin=PASSWORD)
    again = operators("add", "ANN", "--role", "viewer", *everything, stdin=PASSWORD, exit_code=1)
    assert "botfarm operators set-password" in again
    short = operators("add", "bob", "--role", "viewer", *everything, stdin="elevenchars", exit_code=1)
    assert "12 to 1024" in short
    assert "1 to 64" in operators("add", "a b", "--role", "viewer", *everything, stdin=PASSWORD, exit_code=1)
    nowhere = ("--project", "nowhere", "--env", "*")
    assert "botfarm projects list" in operators(
        "add", "bob", "--role", "viewer", *nowhere, stdin=PASSWORD, exit_code=1
    )
    no_env = ("--project", "*", "--env", "Production")
    assert "the name of an env is" in operators(
        "add", "bob", "--role", "viewer", *no_env, stdin=PASSWORD, exit_code=1
    )
    for command in ("disable", "enable"):
        assert "botfarm operators list" in operators(command, "nobody", exit_code=1)
    assert "botfarm operators list" in operators("set-password", "nobody", stdin=PASSWORD, exit_code=1)
    assert set(listed(operators)) == {"ann"}


@pytest.mark.parametrize("scope", [(), ("--project", "*"), ("--env", "*")])
def test_only_an_admin_has_a_default_scope(operators: Operators, scope: tuple[str, ...]) -> None:
    refused = operators("add", "ann", "--role", "manager", *scope, stdin=PASSWORD, exit_code=2)
    assert "--project" in refused
    assert "--env" in refused


def test_an_unknown_role_is_refused_by_name(operators: Operators) -> None:
    refused = operators("add", "ann", "--role", "king", stdin=PASSWORD, exit_code=2)
    assert "viewer" in refused
    assert not listed(operators)


def test_a_password_is_needed(operators: Operators) -> None:
    assert "pipe it in" in operators("add", "ann", "--role", "admin", exit_code=2)
