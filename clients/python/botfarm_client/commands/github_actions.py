"""A lease handed to the later steps of a GitHub Actions job, its credentials masked in the log before anything else."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from botfarm_client.command_errors import CommandError, ExitCode
from botfarm_client.commands.lease_variables import Variables
from botfarm_client.commands.output import say

# Shorter parts are left: to mask each `no`, `1` or `}` of a log would make it unreadable and hide nothing.
_SHORTEST_PART = 4


def require_files() -> None:
    """Before a user is taken, as it could not be handed on."""
    for name in ("GITHUB_ENV", "GITHUB_OUTPUT"):
        if not os.environ.get(name):
            raise CommandError(
                f"{name} is not set: --format github is for steps of GitHub Actions; elsewhere say --format env",
                exit_code=ExitCode.USAGE,
            )


def hand_on(variables: Variables, users: Sequence[Mapping[str, Any]]) -> None:
    """The outputs are those that are no secret, so that they reach other jobs too."""
    for line in masked_lines(variables, users):
        say(f"::add-mask::{_escaped(line)}")
    outputs = {name.removeprefix("BOTFARM_").lower(): value for name, value in variables.items()}
    _append("GITHUB_ENV", variables)
    _append("GITHUB_OUTPUT", {name: outputs[name] for name in ("lease_id", "user_id", "login")})


def masked_lines(variables: Variables, users: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each line of each secret, the longest first: the runner masks lines. In JSON it may be written otherwise."""
    passwords = {user["password"] for user in users}
    secrets = passwords.union(text for user in users for text in _texts(user.get("secrets")))
    written = {form for secret in secrets for form in (secret, json.dumps(secret)[1:-1])}
    parts = {line for form in written for line in form.splitlines() if len(line) >= _SHORTEST_PART}
    whole = {password for password in passwords if len(password.splitlines()) == 1}
    return sorted(filter(str.strip, parts | whole | {variables["BOTFARM_USERS"]}), key=len, reverse=True)


def _texts(value: object) -> Iterator[str]:
    """What a secret may be printed as; names are none."""
    match value:
        case None | bool():
            return
        case dict():
            yield from _texts_of_all(value.values())
        case list():
            yield from _texts_of_all(value)
        case _:
            yield str(value)


def _texts_of_all(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        yield from _texts(value)


def _escaped(line: str) -> str:
    """As commands of the runner are written."""
    return line.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _append(file: str, variables: Variables) -> None:
    # No value can contain a delimiter that is made up here, so none can set a variable of its own.
    delimiter = f"botfarm_{uuid4().hex}"
    text = "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in variables.items())
    try:
        with Path(os.environ[file]).open("a", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as error:
        raise CommandError(f"cannot write to the file of {file}: {error.strerror}") from None
