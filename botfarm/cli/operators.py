import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.domain.access import EVERYTHING, Operator, Role, Token
from botfarm.domain.projects import Project
from botfarm.runtime.services import Services, open_services
from botfarm.services.access.operators import SignedOut
from botfarm.services.access.scope_lookup import ALL
from botfarm.settings import load_settings
from botfarm_client.commands.shared.output import Columns, counted, print_json, print_table, say
from botfarm_client.commands.shared.prompts import read_password
from botfarm_client.shared.durations import format_moment

Answer = TypeVar("Answer")

operators = typer.Typer(no_args_is_help=True, help="The people who sign in to run the farm.")

RevokeTokens = Annotated[
    bool,
    typer.Option(
        "--revoke-tokens", help="Also revoke the tokens that the operator made, and those that these made."
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dot, dash and underscore.")]


@operators.command()
@one_line_errors()
def add(
    name: Name,
    *,
    role: Annotated[Role, typer.Option("--role", help="What the operator may do.")],
    project: Annotated[
        list[str], typer.Option("--project", metavar="P", help="A name or an id, or '*' for all; repeatable.")
    ] = [],  # noqa: B006  Typer copies it
    env: Annotated[
        list[str],
        typer.Option("--env", metavar="E", help="Its name, or '*' for all; repeatable."),
    ] = [],  # noqa: B006
) -> None:
    """Add an operator; asks for the password, or reads it from standard input."""
    if role is Role.ADMIN:
        project, env = project or [ALL], env or [ALL]
    if not project or not env:
        raise typer.BadParameter(f"a {role} has a scope: say --project and --env, each with '*' for all")
    password = read_password()

    async def work(services: Services) -> Operator:
        scope = await services.operators.scope_of(project, env)
        return await services.operators.add(name, password, role, scope)

    added = _run(work)
    say(f"Added the operator {added.name}, {added.role}.")


@operators.command("list")
@one_line_errors()
def list_operators(
    *, as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False
) -> None:
    """List the operators, disabled ones too."""

    async def work(services: Services) -> tuple[list[Operator], list[Project]]:
        return await services.operators.list(), await services.projects.list(EVERYTHING)

    found, projects = _run(work)
    names = {str(project.id): project.name for project in projects}
    items = [_shown(operator, names) for operator in found]
    if as_json:
        print_json({"items": items})
    else:
        print_table(_COLUMNS, items)


@operators.command()
@one_line_errors()
def disable(name: Name, *, revoke_tokens: RevokeTokens = False) -> None:
    """Keep an operator from signing in; ends the current sessions."""
    left = _run(lambda services: services.operators.disable(name, revoke_tokens=revoke_tokens))
    say(
        f"The operator {name} was disabled already."
        if left.was_disabled
        else f"Disabled the operator {name}."
    )
    _say_tokens(left, name, revoked=revoke_tokens)


@operators.command()
@one_line_errors()
def enable(name: Name) -> None:
    """Let a disabled operator sign in again, with the same password."""
    changed = _run(lambda services: services.operators.enable(name))
    say(f"Enabled the operator {name}." if changed else f"The operator {name} was not disabled.")


@operators.command("set-password")
@one_line_errors()
def set_password(name: Name, *, revoke_tokens: RevokeTokens = False) -> None:
    """Give an operator a new password, asked for or from standard input; ends the current sessions."""
    password = read_password()
    left = _run(lambda services: services.operators.set_password(name, password, revoke_tokens=revoke_tokens))
    say(f"The operator {name} has a new password.")
    _say_tokens(left, name, revoked=revoke_tokens)


def _say_tokens(left: SignedOut, name: str, *, revoked: bool) -> None:
    if not left.tokens:
        return
    tokens = counted(len(left.tokens), "token")
    if revoked:
        say(f"Revoked {tokens} that {name} made, or that those made:")
    else:
        say(
            f"In force, until this is run with --revoke-tokens: "
            f"{tokens} that {name} made, or that those made:"
        )
    print_table(_TOKEN_COLUMNS, [_shown_token(token) for token in left.tokens])


def _run(work: Callable[[Services], Awaitable[Answer]]) -> Answer:
    settings = load_settings()

    async def run() -> Answer:
        async with open_services(settings, "operators", in_background=True) as services:
            return await work(services)

    return asyncio.run(run())


def _shown(operator: Operator, names: Mapping[str, str]) -> dict[str, Any]:
    scope = operator.scope
    projects = [ALL] if scope.projects is None else map(str, scope.projects)
    return {
        "name": operator.name,
        "role": operator.role.value,
        # A project that is gone has no name any more.
        "projects": sorted(names.get(project, project) for project in projects),
        "envs": [ALL] if scope.envs is None else sorted(scope.envs),
        "created_at": operator.created_at.isoformat(),
        "disabled_at": operator.disabled_at.isoformat() if operator.disabled_at else None,
    }


def _shown_token(token: Token) -> dict[str, Any]:
    return {
        "name": token.name,
        "role": token.role.value,
        "created_by": token.created_by,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "id": token.id,
    }


_TOKEN_COLUMNS: Columns = {
    "name": lambda token: token["name"],
    "role": lambda token: token["role"],
    "made by": lambda token: token["created_by"],
    "ends": lambda token: format_moment(token["expires_at"]),
    "id": lambda token: token["id"],
}
_COLUMNS: Columns = {
    "name": lambda operator: operator["name"],
    "role": lambda operator: operator["role"],
    "projects": lambda operator: " ".join(operator["projects"]),
    "envs": lambda operator: " ".join(operator["envs"]),
    "created": lambda operator: format_moment(operator["created_at"]),
    "disabled": lambda operator: format_moment(operator["disabled_at"]),
}
