"""Operators, through the service that the commands use."""

import asyncio
from collections.abc import Iterable

import pytest

from botfarm.db.access import operator_queries, token_queries
from botfarm.db.access.token_queries import NewToken
from botfarm.domain.access import EVERYTHING, Principal, Role, Scope, Token
from botfarm.errors import OperatorError, UnauthenticatedError
from botfarm.services.access.tokens import MadeToken, require_in_force
from support.farm import MANAGER, PASSWORD, Farm


async def audited(farm: Farm) -> list[tuple[str, str, str]]:
    rows = await farm.sql.fetch("SELECT principal, action, target_id FROM audit WHERE target = 'operator'")
    return [tuple(row) for row in rows]


async def sign_in(farm: Farm, name: str, password: str = PASSWORD) -> str:
    _, badge = await farm.services.sessions.login(name, password, address="192.0.2.1", request_id="r")
    return badge.jwt


async def test_an_operator_is_added_with_a_role_and_a_scope(farm: Farm) -> None:
    project = await farm.project()
    scope = await farm.services.operators.scope_of([project.name], ["stage", "preprod"])
    assert scope == Scope(frozenset({project.id}), frozenset({"stage", "preprod"}))
    assert await farm.services.operators.scope_of([str(project.id).upper()], ["*"]) == Scope(
        frozenset({project.id}), None
    )
    assert await farm.services.operators.scope_of(["*"], ["*"]) == EVERYTHING
    added = await farm.services.operators.add("Ann.B", PASSWORD, Role.MANAGER, scope)
    assert await farm.services.operators.list() == [added]
    assert (added.role, added.scope, added.disabled_at) == (Role.MANAGER, scope, None)
    assert await audited(farm) == [("command-line", "add_operator", "Ann.B")]


async def test_two_operators_of_one_name_added_at_once_are_one_and_others_do_not_wait(farm: Farm) -> None:
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
async def test_an_invalid_operator_is_refused_and_changes_nothing(
    farm: Farm, name: str, password: str, way_out: str
) -> None:
    await farm.services.operators.add("bob", PASSWORD, Role.VIEWER, EVERYTHING)
    with pytest.raises(OperatorError, match=way_out) as refused:
        await farm.services.operators.add(name, password, Role.ADMIN, EVERYTHING)
    assert password not in str(refused.value)
    assert [operator.name for operator in await farm.services.operators.list()] == ["bob"]
    assert len(await audited(farm)) == 1


@pytest.mark.parametrize(("projects", "envs"), [(["nowhere"], ["*"]), (["*"], ["Production"])])
async def test_a_scope_of_an_unknown_project_or_env_is_refused(
    farm: Farm, projects: list[str], envs: list[str]
) -> None:
    with pytest.raises(OperatorError, match=r"no project|name of an env is"):
        await farm.services.operators.scope_of(projects, envs)


async def test_disabling_ends_the_sessions_for_good(farm: Farm) -> None:
    operators = farm.services.operators
    await operators.add("ann", PASSWORD, Role.ADMIN, EVERYTHING)
    token = await sign_in(farm, "ann")
    assert not (await operators.disable("ANN")).was_disabled
    assert (await operators.disable("ann")).was_disabled
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


async def make_token(farm: Farm, maker: Principal, name: str, role: Role = Role.ADMIN) -> MadeToken:
    return await farm.services.tokens.create(
        maker, name=name, role=role, projects=None, envs=None, max_leases=None, expires_in=None
    )


async def principal_of(farm: Farm, made: MadeToken) -> Principal:
    return await farm.services.authentication.principal_of(f"Bearer {made.written}")


async def ann_signed_in(farm: Farm) -> Principal:
    await farm.services.operators.add("Ann", PASSWORD, Role.ADMIN, EVERYTHING)
    principal, _ = await farm.services.sessions.authenticate(await sign_in(farm, "ann"))
    return principal


async def tokens_of_ann(farm: Farm) -> Principal:
    """Makes two live tokens through a revoked one, and a token that is not hers. Gives her session."""
    ann = await ann_signed_in(farm)
    gone = await make_token(farm, ann, "gone")
    child = await make_token(farm, await principal_of(farm, gone), "child")
    await make_token(farm, await principal_of(farm, child), "grandchild", Role.RUNNER)
    await farm.services.tokens.revoke(MANAGER, gone.token.id)
    await make_token(farm, MANAGER, "not-hers")
    return ann


def names(tokens: Iterable[Token]) -> set[str]:
    return {token.name for token in tokens}


@pytest.mark.parametrize("way", ["disable", "set_password"])
async def test_the_tokens_that_an_operator_leaves_are_told_and_can_be_revoked(farm: Farm, way: str) -> None:
    await tokens_of_ann(farm)
    arguments = ("ann",) if way == "disable" else ("ann", "another password")
    change = getattr(farm.services.operators, way)
    left = await change(*arguments)
    assert names(left.tokens) == {"child", "grandchild"}
    left = await change(*arguments, revoke_tokens=True)
    assert names(left.tokens) == {"child", "grandchild"}
    live = [token for token in await farm.services.tokens.list(EVERYTHING) if token.revoked_at is None]
    assert names(live) == {"not-hers"}
    assert not (await change(*arguments, revoke_tokens=True)).tokens
    told = "SELECT details ->> 'name' FROM audit WHERE action = 'delete_token' AND principal = 'command-line'"
    assert {row[0] for row in await farm.sql.fetch(told)} == {"child", "grandchild"}


@pytest.mark.parametrize("way", ["disable", "set_password"])
async def test_a_session_that_was_ended_makes_no_token_any_more(farm: Farm, way: str) -> None:
    """A replica may accept a revoked maker for five seconds."""
    ann = await ann_signed_in(farm)
    arguments = ("ann",) if way == "disable" else ("ann", "another password")
    await getattr(farm.services.operators, way)(*arguments)
    with pytest.raises(UnauthenticatedError):
        await make_token(farm, ann, "late")


async def test_a_revoked_token_makes_no_token_any_more(farm: Farm) -> None:
    made = await make_token(farm, MANAGER, "admin")
    principal = await principal_of(farm, made)
    await farm.services.tokens.revoke(MANAGER, made.token.id)
    with pytest.raises(UnauthenticatedError):
        await make_token(farm, principal, "late")


@pytest.mark.parametrize("maker", ["session", "token"])
async def test_a_token_that_is_being_made_meanwhile_is_revoked_too(farm: Farm, maker: str) -> None:
    ann = await ann_signed_in(farm)
    if maker == "token":
        ann = await principal_of(farm, await make_token(farm, ann, "first"))
    async with farm.database.transaction() as session:
        await require_in_force(session, ann)
        revoking = asyncio.create_task(farm.services.operators.disable("ann", revoke_tokens=True))
        await farm.until_blocked()
        new = NewToken("x" * 12, b"", "meanwhile", Role.ADMIN, EVERYTHING, None, None, None, ann.name)
        await token_queries.insert_token(session, new)
    assert "meanwhile" in names((await revoking).tokens)
    assert await farm.sql.fetchval("SELECT count(*) FROM tokens WHERE revoked_at IS NULL") == 0


async def test_an_unknown_operator_is_an_error(farm: Farm) -> None:
    operators = farm.services.operators
    for change in (
        operators.disable("nobody"),
        operators.enable("nobody"),
        operators.set_password("nobody", PASSWORD),
    ):
        with pytest.raises(OperatorError, match="botfarm operators list"):
            await change
