import asyncio
from pathlib import Path
from typing import Annotated

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.cli.secret_files import write_secret
from botfarm.errors import OperatorError
from botfarm.runtime.keys import require_keys
from botfarm.runtime.services import open_services
from botfarm.services.upkeep.demo_data import DemoCounts, add_demo_data, token_for_runners
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
) -> None:
    """Add demo data: two projects, some 60 users; adds only what is missing."""
    settings = load_settings()
    require_keys(settings)
    added = asyncio.run(add_to(settings))
    typer.echo(f"Added {added.projects} projects and {added.users} users.")
    if runner_token is not None:
        _keep_token(settings, runner_token)


async def add_to(settings: Settings) -> DemoCounts:
    async with open_services(settings, "demo", in_background=True) as services:
        return await add_demo_data(services.projects, services.users)


def _keep_token(settings: Settings, path: Path) -> None:
    async def choose(held: str) -> str:
        async with open_services(settings, "demo", in_background=True) as services:
            return await token_for_runners(services.tokens, services.authentication, held=held)

    try:
        held = path.read_text(errors="replace").strip() if path.exists() else ""
        write_secret(path, asyncio.run(choose(held)))
    except OSError as error:
        raise OperatorError(f"cannot keep a token in {path}: {error.strerror}") from None
