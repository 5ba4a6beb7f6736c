import json
import os
from typing import Annotated

import typer
from pydantic import SecretStr

from botfarm.cli.errors import one_line_errors
from botfarm.settings import PREFIX, Settings, load_settings


@one_line_errors()
def config(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
) -> None:
    """Show the settings in force, with secrets masked, and which of them were set."""
    settings = load_settings()
    shown = {f"{PREFIX}{name.upper()}": _shown(getattr(settings, name)) for name in Settings.model_fields}
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
        return
    width = max(map(len, shown))
    for name, value in shown.items():
        was_set = "  (set)" if os.environ.get(name) else ""
        typer.echo(f"{name.ljust(width)}  {'' if value is None else value}{was_set}".rstrip())


def _shown(value: object) -> str | int | float | None:
    match value:
        case SecretStr():
            return "********" if value.get_secret_value() else None
        case None | int() | float():
            return value
        case _:
            return str(value)
