"""The `botfarm` command. Other distributions add commands through the entry-point group `botfarm.commands`."""

import signal
import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from botfarm_client.command_errors import CommandError as CommandError  # noqa: PLC0414  the server's commands raise it too
from botfarm_client.command_errors import ExitCode
from botfarm_client.text_input import strip_variables

GROUP = "botfarm.commands"
OVER_HTTP = {
    name: EntryPoint(name, f"botfarm_client.{value}", GROUP)
    for name, value in {
        "audit": "commands.audit:audit",
        "exec": "commands.exec:run_under_lease",
        "leases": "commands.leases:leases",
        "pools": "commands.pools:pools",
        "projects": "commands.projects:projects",
        "tokens": "commands.tokens:tokens",
        "users": "commands.users:users",
    }.items()
}

EPILOG = (
    "BOTFARM_URL and BOTFARM_TOKEN (or BOTFARM_TOKEN_FILE) say which farm, and who asks.\n\n"
    "Exit codes: 0 ok, 1 error, 2 wrong usage, 3 import with bad lines, 4 no such thing, 5 busy or exhausted, "
    "6 lapsed, 7 farm unreachable or unavailable, 130 Ctrl-C; of `exec` its command's, or 75 when the users are lost."
)


class _CommandsOnDemand(TyperGroup):
    """Loads a command when it is asked for, so that `botfarm pools` does not import a server."""

    # Untyped where Typer shows Click: releases differ in whether that is the package or a copy inside Typer.
    @override
    def list_commands(self, ctx: Any) -> list[str]:
        installed = {entry.name for entry in entry_points(group=GROUP)}
        return [*OVER_HTTP, *sorted(installed.union(super().list_commands(ctx)).difference(OVER_HTTP))]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in OVER_HTTP:
            return _load(OVER_HTTP[cmd_name], panel="Over HTTP")
        for entry in entry_points(group=GROUP, name=cmd_name):
            return _load(entry, panel="On this machine")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_CommandsOnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Leases of test accounts, each to one test run at a time.",
    epilog=EPILOG,
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
    strip_variables()  # before the options of a command are read from them


def main(arguments: list[str] | None = None) -> None:
    """Runs the command of the arguments, by default those of the process."""
    # From the first moment on: the first process of a container has no default action that would end it.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:  # whoever started us may want it ignored
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="botfarm")
    except CommandError as error:
        typer.echo(f"botfarm: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before or after the part that Typer looks after
        sys.exit(ExitCode.INTERRUPTED)


def _load(entry: EntryPoint, *, panel: str) -> Any:
    loaded = entry.load()
    command: Any
    if isinstance(loaded, typer.Typer):
        command = typer.main.get_group(loaded)  # as a group it has no completion options of its own
    else:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        # What follows the first argument is that argument's: `exec` has a command with options of its own.
        single.command(entry.name, context_settings={"allow_interspersed_args": False})(loaded)
        command = typer.main.get_command(single)
    command.name = entry.name
    command.rich_help_panel = panel
    return command
