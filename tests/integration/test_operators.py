"""Operators as the commands manage them."""

import asyncio

import pytest

from botfarm.access import EVERYTHING, Role, Scope
from botfarm.db import operator_queries
from botfarm.domain import Env
from botfarm.errors import OperatorError, UnauthenticatedError
from support.farm import PASSWORD, Farm


async def audited(farm: Farm) -> list[tuple[str, str, str]]:
    rows = await farm.sql.fetch("SELECT principal, action, target_id FROM audit WHERE target = 'operator'")
    return [tuple(row) for row in rows]


async def sign_in(farm: Farm, name: str, password: str = PASSWORD) -> str:
    _, badge = await farm.services.sessions.login(name, password, address="192.0.2.1", request_id="r")
    return badge.jwt


async def test_an_operator_is_added_with_a_role_and_a_scope(farm: Farm) -> None:
    project = await farm.project()
    scope = await farm.services.operators.scope_of([project.name], ["stage", "preprod"])
    assert scope == Scope(frozenset({project.id}), frozenset({Env.STAGE, Env.PREPROD}))
    assert await farm.services.operators.scope_of([str(project.id).upper()], ["*"]) == Scope(
        frozenset({project.id}), None
    )
    assert await farm.services.operators.scope_of(["*"], ["*"]) == EVERYTHING
    added = await farm.services.operators.add("Ann.B", PASSWORD, Role.MANAGER, scope)
    assert await farm.services.operators.list() == [added]
    assert (added.role, added.scope, added.disabled_at) == (Role.MANAGER, scope, None)
    assert await audited(farm) == [("command-line", "add_operator", "Ann.B")]


async def test_of_two_of_one_name_at_once_one_is_added_and_nobody_else_waits(farm: Farm) -> None:
    async with farm.database.transaction() as first:
        ann = await operator_queries.insert_operator(
            first, name="Ann", password_hash="x", role=Role.VIEWER, scope=EVERYTHING
        )
        second = asyncio.create_task(farm.services.operators.add("aNN", PASSWORD, Role.ADMIN, EVERYTHING))
        await farm.until_blocked()
        await farm.services.operators.add("bob", PASSWORD, Role.VIEWER, EVERYTHING)
    with pytest.raises(OperatorError, match="set-password"):
        await second
    assert ann is not None
    assert [operator.name for operator in await farm.services.operators.list()] == ["Ann", "bob"]


async def test_a_password_is_nowhere_in_clear(farm: Farm) -> None:
    await farm.services.operators.add("ann", PASSWORD, Role.VIEWER, EVERYTHING)
    for table in ("operators", "audit"):
        assert PASSWORD not in str(await farm.sql.fetch(f"SELECT t::text FROM {table} t"))


@pytest.mark.parametrize(
    ("name", "password", "way_out"),
    [
        ("", PASSWORD, "1 to 64"),
        ("a b", PASSWORD, "1 to 64"),
        ("ann\n", PASSWORD, "1 to 64"),
        ("a" * 65, PASSWORD, "1 to 64"),
        ("BOB", PASSWORD, "set-password"),
        ("ann", "elevenchars", "12 to 1024"),
        ("ann", "x" * 1_025, "12 to 1024"),
        ("ann", "with\0nothing in it", "control characters"),
        ("ann", "half a pair: \ud800", "control characters"),
    ],
)
async def test_what_cannot_be_an_operator_is_said_and_changes_nothing(
    farm: Farm, name: str, password: str, way_out: str
) -> None:
    await farm.services.operators.add("bob", PASSWORD, Role.VIEWER, EVERYTHING)
    with pytest.raises(OperatorError, match=way_out) as refused:
        await farm.services.operators.add(name, password, Role.ADMIN, EVERYTHING)
    assert password not in str(refused.value)
    assert [operator.name for operator in await farm.services.operators.list()] == ["bob"]
    assert len(await audited(farm)) == 1


@pytest.mark.parametrize(("projects", "envs"), [(["nowhere"], ["*"]), (["*"], ["production"])])
async def test_a_scope_of_what_is_not_there_is_refused(
    farm: Farm, projects: list[str], envs: list[str]
) -> None:
    with pytest.raises(OperatorError, match=r"no project|an env is"):
        await farm.services.operators.scope_of(projects, envs)


async def test_disabling_ends_the_sessions_for_good(farm: Farm) -> None:
    operators = farm.services.operators
    await operators.add("ann", PASSWORD, Role.ADMIN, EVERYTHING)
    token = await sign_in(farm, "ann")
    assert await operators.disable("ANN")
    assert not await operators.disable("ann")
    with pytest.raises(UnauthenticatedError):
        await sign_in(farm, "ann")
    assert await operators.enable("ann")
    assert not await operators.enable("ann")
    with pytest.raises(UnauthenticatedError):
        await farm.services.sessions.authenticate(token)
    await sign_in(farm, "ann")
    actions = [action for _, action, _ in await audited(farm)]
    assert actions == [
        "add_operator",
        "login",
        "disable_operator",
        "login_failed",
        "enable_operator",
        "login",
    ]


async def test_a_new_password_ends_the_sessions_and_the_old_password(farm: Farm) -> None:
    operators = farm.services.operators
    await operators.add("ann", PASSWORD, Role.ADMIN, EVERYTHING)
    await operators.add("bob", PASSWORD, Role.ADMIN, EVERYTHING)
    anns, bobs = await sign_in(farm, "ann"), await sign_in(farm, "bob")
    await operators.set_password("ann", "another password")
    with pytest.raises(UnauthenticatedError):
        await farm.services.sessions.authenticate(anns)
    await farm.services.sessions.authenticate(bobs)
    with pytest.raises(UnauthenticatedError):
        await sign_in(farm, "ann")
    await sign_in(farm, "ann", "another password")
    assert ("command-line", "set_operator_password", "ann") in await audited(farm)


async def test_nobody_is_not_changed(farm: Farm) -> None:
    operators = farm.services.operators
    for change in (
        operators.disable("nobody"),
        operators.enable("nobody"),
        operators.set_password("nobody", PASSWORD),
    ):
        with pytest.raises(OperatorError, match="botfarm operators list"):
            await change
