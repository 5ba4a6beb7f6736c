import asyncio

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.runtime import migrate as migrate_schema
from botfarm.settings import load_settings


@one_line_errors()
def migrate() -> None:
    """Bring the database to the schema of this version; harmless when it is there."""
    asyncio.run(migrate_schema(load_settings()))
    typer.echo("The schema is up to date.")
