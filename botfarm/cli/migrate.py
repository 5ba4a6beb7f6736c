import asyncio

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.logs import configure_logging
from botfarm.runtime.startup import migrate as migrate_schema
from botfarm.settings import load_settings


@one_line_errors()
def migrate() -> None:
    """Bring the database to this version's schema; harmless when repeated, and while the farm is in use."""
    settings = load_settings()
    configure_logging(settings.log_level)
    newer = asyncio.run(migrate_schema(settings))
    if newer:
        typer.echo(f"The schema is a newer version's (revision {newer}). It stays as it is.")
    else:
        typer.echo("The schema is up to date.")
