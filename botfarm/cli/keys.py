from typing import Annotated

import typer

from botfarm.credentials import generate_key

keys = typer.Typer(no_args_is_help=True, help="The keys that encrypt stored passwords.")


@keys.callback()
def _keys() -> None:
    pass


@keys.command()
def generate(
    key_id: Annotated[str, typer.Option("--id", help="Its name, stored beside each value.")] = "k1",
) -> None:
    """Print a new key for BOTFARM_ENCRYPTION_KEYS."""
    typer.echo(generate_key(key_id))
