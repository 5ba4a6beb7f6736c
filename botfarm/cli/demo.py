import asyncio
from pathlib import Path
from typing import Annotated

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.cli.secret_files import write_secret
from botfarm.domain.access import Role
from botfarm.errors import OperatorError
from botfarm.runtime.keys import require_keys
from botfarm.runtime.services import open_services
from botfarm.services.upkeep.demo_data import DemoCounts, add_demo_data, token_of_the_demo
from botfarm.settings import Settings, load_settings


@one_line_errors()
def demo(
    *,
    runner_token: Annotated[
        Path | None,
        typer.Option(
            "--runner-token",
            metavar="FILE",
            help="Keep a token in this file that may only take users of the project shop in stage.",
        ),
    ] = None,
    keeper_token: Annotated[
        Path | None,
        typer.Option(
            "--keeper-token",
            metavar="FILE",
            help="Keep a token of a keeper of the same users in this file. A new project shop then has chores.",
        ),
    ] = None,
) -> None:
    """Add demo data: two projects, some 60 users; adds only what is missing."""
    settings = load_settings()
    require_keys(settings)
    added = asyncio.run(add_to(settings, kept=keeper_token is not None))
    typer.echo(f"Added {added.projects} projects and {added.users} users.")
    for role, path in ((Role.RUNNER, runner_token), (Role.KEEPER, keeper_token)):
        if path is not None:
            _keep_token(settings, role, path)


async def add_to(settings: Settings, *, kept: bool = False) -> DemoCounts:
    async with open_services(settings, "demo", in_background=True) as services:
        return await add_demo_data(services.projects, services.users, kept=kept)


def _keep_token(settings: Settings, role: Role, path: Path) -> None:
    async def choose(held: str) -> str:
        async with open_services(settings, "demo", in_background=True) as services:
            return await token_of_the_demo(services.tokens, services.authentication, role, held=held)

    try:
        held = path.read_text(errors="replace").strip() if path.exists() else ""
        write_secret(path, asyncio.run(choose(held)))
    except OSError as error:
        raise OperatorError(f"cannot keep a token in {path}: {error.strerror}") from None
