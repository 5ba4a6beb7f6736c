import asyncio

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.runtime import open_services, require_keys
from botfarm.services.demo import DemoCounts, add_demo_data
from botfarm.settings import Settings, load_settings


@one_line_errors()
def demo() -> None:
    """Add demo data: two projects, some 60 users; adds only what is missing."""
    settings = load_settings()
    require_keys(settings)
    added = asyncio.run(add_to(settings))
    typer.echo(f"Added {added.projects} projects and {added.users} users.")


async def add_to(settings: Settings) -> DemoCounts:
    async with open_services(settings, "demo", in_background=True) as services:
        return await add_demo_data(services.projects, services.users)
