"""Questions to the person at the terminal. Without a terminal a command reads or refuses; it never hangs."""

import getpass
import sys

import typer

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.shared.text_input import decoded


def read_password() -> str:
    """A password: typed twice and not shown, or without a terminal the only line of standard input."""
    password = _ask_twice() if _somebody_is_there() else _piped()
    if not password:
        raise CommandError("the password is empty: type it, or pipe it in", exit_code=ExitCode.USAGE)
    return password


def confirm(question: str, *, yes: bool) -> None:
    """Returns if the answer is yes. Raises CommandError otherwise."""
    if yes:
        return
    if not _somebody_is_there():
        raise CommandError("nobody is here to ask: say --yes", exit_code=ExitCode.USAGE)
    typer.echo(f"{question} [y/N] ", nl=False, err=True)
    answer = sys.stdin.readline()
    if not answer:  # after Ctrl-D the cursor is still on the line of the question
        typer.echo(err=True)
    if answer.strip().lower() not in {"y", "yes"}:
        raise CommandError("nothing was changed")


def _somebody_is_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _ask_twice() -> str:
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Once more: ") if password else ""
    except EOFError:  # Ctrl-D; the cursor is still on the line of the question
        typer.echo(err=True)
        return ""
    if password != again:
        raise CommandError("the two passwords differ: try again", exit_code=ExitCode.USAGE)
    return password


def _piped() -> str:
    if sys.stdin is None:
        return ""
    try:
        text = decoded(sys.stdin.buffer.read())
    except UnicodeDecodeError:
        raise CommandError(
            "the password is neither UTF-8 nor UTF-16 text", exit_code=ExitCode.USAGE
        ) from None
    password = text.removesuffix("\n").removesuffix("\r")
    if "\n" in password:
        raise CommandError("the password is one line; there are more", exit_code=ExitCode.USAGE)
    if password != password.strip():  # the blank may be intended
        typer.echo("botfarm: the password begins or ends with a blank, which is part of it", err=True)
    return password
