"""Reads passwords, secrets and TOTP seeds from files and standard input, never from the command line."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from botfarm_client.commands.shared.command_errors import CommandError, ExitCode
from botfarm_client.commands.shared.prompts import read_password
from botfarm_client.shared.json_objects import json_object
from botfarm_client.shared.text_input import decoded, stripped

SecretsFile = Annotated[
    Path | None,
    typer.Option("--secrets", metavar="FILE", help="A JSON object: what else a test must know."),
]
SecretChangesFile = Annotated[
    Path | None,
    typer.Option(
        "--secrets",
        metavar="FILE",
        help="A JSON object, merged by its names; null removes one. - is standard input.",
    ),
]
TotpFile = Annotated[
    Path | None,
    typer.Option(
        "--totp-file",
        metavar="FILE",
        help="Holds the seed of its one-time codes, in base32 or as otpauth://.",
    ),
]


def read_credentials(
    *, password: bool, secrets: Path | None, totp_file: Path | None = None
) -> dict[str, Any]:
    """The credentials by their names in the API.

    Files are read, and refused, before the password is asked for.
    """
    _refuse_second_reader(password=password, secrets=secrets, totp_file=totp_file)
    found: dict[str, Any] = {}
    if secrets is not None:
        found["secrets"] = _secrets(secrets)
    if totp_file is not None:
        found["totp_seed"] = _totp_seed(totp_file)
    if password:
        found["password"] = read_password()
    return found


def _refuse_second_reader(*, password: bool, secrets: Path | None, totp_file: Path | None) -> None:
    wanted = {
        "the password": password,
        "--secrets": _is_standard_input(secrets),
        "--totp-file": _is_standard_input(totp_file),
    }
    readers = [name for name, is_wanted in wanted.items() if is_wanted]
    if len(readers) > 1:
        raise typer.BadParameter(
            f"standard input is for one thing, not for {' and '.join(readers)}: name a file instead of -"
        )


def _secrets(path: Path) -> dict[str, Any]:
    found = json_object(_content(path, option="--secrets"))
    if found is None:
        raise CommandError("what --secrets names is not a JSON object", exit_code=ExitCode.USAGE)
    return found


def _totp_seed(path: Path) -> str:
    try:
        seed = stripped(decoded(_content(path, option="--totp-file")))
    except UnicodeDecodeError:
        seed = ""
    if not seed or "\n" in seed:
        raise CommandError(
            "what --totp-file names is not one line with a seed or an otpauth:// URI",
            exit_code=ExitCode.USAGE,
        )
    return seed


def _content(path: Path, *, option: str) -> bytes:
    """The error for a file that cannot be read, without its name, which may be the secret by mistake."""
    if _is_standard_input(path):
        return b"" if sys.stdin is None else sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(
            f"cannot read the file of {option}: {error.strerror}", exit_code=ExitCode.USAGE
        ) from None


def _is_standard_input(path: Path | None) -> bool:
    return str(path) == "-"
