"""The `botfarm` command.

Other distributions add tables of commands through the entry-point group `botfarm.commands`.
"""

import gc
import signal
import sys
from functools import cache
from pkgutil import resolve_name
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from botfarm_client import __version__
from botfarm_client.commands.command_table import COMMANDS, CommandEntry, CommandTable

# The server's commands raise it, too.
from botfarm_client.commands.shared.command_errors import CommandError as CommandError  # noqa: PLC0414
from botfarm_client.commands.shared.command_errors import ExitCode
from botfarm_client.shared.text_input import strip_variables

GROUP = "botfarm.commands"

EPILOG = (
    "BOTFARM_URL and BOTFARM_TOKEN (or BOTFARM_TOKEN_FILE) say which farm, and who asks.\n\n"
    "Exit codes: 0 ok, 1 error, 2 wrong usage, 3 import with bad lines, 4 no such thing, "
    "5 busy or exhausted, 6 lapsed, 7 farm unreachable or unavailable, 130 Ctrl-C; "
    "of `exec` its command's, or 75 when the users are lost. The command of `chores run` says by its own "
    "how the user is left: 0 ok, 10 dirty, 11 broken."
)


_OVER_HTTP, _ON_THIS_MACHINE = "Over HTTP", "On this machine"


class _ListedCommand(TyperCommand):
    """A command as `botfarm --help` lists it, not imported yet."""

    def __init__(self, name: str, entry: CommandEntry, *, panel: str) -> None:
        super().__init__(name, help=entry.help, rich_help_panel=panel)
        self._entry = entry

    def load(self) -> Any:
        """The command itself. Raises CommandError for a command of the server on Windows."""
        is_of_the_server = self.rich_help_panel == _ON_THIS_MACHINE
        if is_of_the_server and sys.platform == "win32":
            raise CommandError(
                f"`botfarm {self.name}` does not run on Windows: use the container image, WSL, Linux or macOS"
            )
        found = (_import_of_the_server if is_of_the_server else resolve_name)(self._entry.target)
        command: Any
        if isinstance(found, typer.Typer):
            command = typer.main.get_group(found)  # as a group it has no completion options of its own
        else:
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            settings = {"allow_interspersed_args": not self._entry.takes_program}
            single.command(self.name, cls=_SingleCommand, context_settings=settings)(found)
            command = typer.main.get_command(single)
            command.usage_exit_code = self._entry.usage_exit_code
        command.name = self.name
        return command


def _import_of_the_server(target: str) -> Any:
    """Imports a command of the server without garbage collections, which would take a sixth of its start.

    What is imported stays until the process ends, so later collections leave it out.
    """
    gc.disable()
    try:
        return resolve_name(target)
    finally:
        gc.freeze()
        gc.enable()


class _SingleCommand(TyperCommand):
    usage_exit_code: int

    @override
    def make_context(self, *args: Any, **settings: Any) -> Any:
        """Reads the options. The error for wrong ones ends with `usage_exit_code`."""
        try:
            return super().make_context(*args, **settings)
        except Exception as error:
            if getattr(error, "exit_code", None) == ExitCode.USAGE:
                error.exit_code = self.usage_exit_code  # type: ignore[attr-defined]
            raise


class _CommandsOnDemand(TyperGroup):
    """Lists commands from their tables, and imports only the one that is used."""

    # `Any` for Click's types: releases of Typer use the package or a copy of their own.
    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return [*COMMANDS, *sorted(_installed_commands())]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command as it is listed. `resolve_command` imports the command itself."""
        if entry := COMMANDS.get(cmd_name):
            return _ListedCommand(cmd_name, entry, panel=_OVER_HTTP)
        if entry := _installed_commands().get(cmd_name):
            return _ListedCommand(cmd_name, entry, panel=_ON_THIS_MACHINE)
        return None

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed.load() if isinstance(listed, _ListedCommand) else listed, rest


@cache
def _installed_commands() -> CommandTable:
    """The commands of other distributions. They cannot replace the client's own."""
    from importlib.metadata import entry_points  # noqa: PLC0415  takes a quarter of the start of a command

    found: dict[str, CommandEntry] = {}
    for entry_point in entry_points(group=GROUP):
        found |= entry_point.load()
    return {name: entry for name, entry in found.items() if name not in COMMANDS}


app = typer.Typer(
    cls=_CommandsOnDemand,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Leases of test accounts, each to one test run at a time.",
    epilog=EPILOG,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"botfarm {__version__}")
        raise typer.Exit


@app.callback()
def _botfarm(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    strip_variables()  # before options are read from them


def main(arguments: list[str] | None = None) -> None:
    """Runs the command of the arguments, by default those of the process."""
    # At once, because SIGTERM does not end the first process of a container without a handler.
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:  # the parent may want it ignored
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Keeps httpx from importing its own command line with click and rich, half of its import time.
    # `None` makes the import fail as if the module were not installed, which httpx expects.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character that the terminal cannot show is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        app(arguments, prog_name="botfarm")
    except CommandError as error:
        typer.echo(f"botfarm: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # outside of the part that Typer handles
        sys.exit(ExitCode.INTERRUPTED)
