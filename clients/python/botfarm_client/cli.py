"""The `botfarm` command. Other distributions add commands through the entry-point group `botfarm.commands`."""

import signal
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

GROUP = "botfarm.commands"


class CommandError(Exception):
    """Ends a command with one line on standard error: what is wrong, and the way out."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _CommandsOfEntryPoints(TyperGroup):
    """Loads a command when it is asked for, so that `botfarm pools` does not import a server."""

    # Untyped where Typer shows Click: releases differ in whether that is the package or a copy inside Typer.
    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *(entry.name for entry in entry_points(group=GROUP))})

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for entry in entry_points(group=GROUP, name=cmd_name):
            return _load(entry)
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_CommandsOfEntryPoints,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Leases of test accounts, each to one test run at a time.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"botfarm {version('botfarm-client')}")
        raise typer.Exit


@app.callback()
def _botfarm(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


def main() -> None:
    # From the first moment on: the first process of a container has no default action that would end it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app(prog_name="botfarm")
    except CommandError as error:
        typer.echo(f"botfarm: {error}", err=True)
        sys.exit(error.exit_code)


def _load(entry: EntryPoint) -> Any:
    loaded = entry.load()
    if not isinstance(loaded, typer.Typer):
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(entry.name)(loaded)
        loaded = single
    command = typer.main.get_command(loaded)
    command.name = entry.name
    return command
