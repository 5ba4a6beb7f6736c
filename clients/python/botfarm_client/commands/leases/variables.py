"""A lease as environment variables, for programs of any language."""

import os
import sys
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any
from uuid import uuid4

from botfarm_client.commands.shared.command_errors import CommandError
from botfarm_client.shared.plain_json import plain_json

USERS, USERS_FILE = "BOTFARM_USERS", "BOTFARM_USERS_FILE"
# The fields that a program needs. The farm can be asked for the others, such as `locktime`.
_FIELDS = ("id", "login", "password", "labels", "secrets")
# Bytes of `NAME=value` and its NUL: Linux's MAX_ARG_STRLEN; Windows counts 32,767 characters.
_LONGEST_VARIABLE = 32_767 if sys.platform == "win32" else 131_072
# Bytes: Linux's ARG_MAX, and three quarters of its _STK_LIM.
_LEAST_TOGETHER, _MOST_TOGETHER = 131_072, 6_291_456
_POINTER = 8

Variables = dict[str, str]


def lease_variables(lease_id: str, users: Sequence[Mapping[str, Any]]) -> Variables:
    """The variables of the first user, and all users in `BOTFARM_USERS`, as JSON in ASCII."""
    first = users[0]
    return {
        "BOTFARM_LEASE_ID": lease_id,
        "BOTFARM_USER_ID": first["id"],
        "BOTFARM_LOGIN": first["login"],
        "BOTFARM_PASSWORD": first["password"],
        USERS: plain_json([_user(each) for each in users]),
    }


def require_room(variables: Variables) -> None:
    """Raises CommandError if a program cannot be started with these variables.

    For formats without a file of users, because nobody would remove the file.
    """
    if not _is_room_for({**os.environ, **variables}, ()):
        raise CommandError(
            "the users and their secrets are longer than environment variables may be: "
            "take them with --json, or with `botfarm exec`, which passes them in a file"
        )


def with_users_file(
    variables: Variables, file: Path, *, beside: Mapping[str, str], arguments: Sequence[str] = ()
) -> Variables:
    """The variables, if a program can be started with them; else the users are written to the file instead.

    `BOTFARM_USERS_FILE` then replaces `BOTFARM_USERS`. The caller removes the file, if it is there.
    Raises CommandError when the rest is still too long, or the file cannot be written.
    """
    if _is_room_for({**beside, **variables}, arguments):
        return variables
    shorter = {name: value for name, value in variables.items() if name != USERS} | {USERS_FILE: str(file)}
    if not _is_room_for({**beside, **shorter}, arguments):
        raise CommandError("the environment and the arguments are too long to start a program with the users")
    try:
        # Created with its mode, so that nobody else can ever open it.
        with os.fdopen(
            os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
        ) as opened:
            opened.write(variables[USERS])
    except OSError as error:
        raise CommandError(f"cannot write a file of users to {file.parent}: {error.strerror}") from None
    return shorter


def users_file(folder: Path) -> Path:
    """A new path."""
    return folder / f"botfarm-users-{uuid4().hex}.json"


def _is_room_for(environment: Mapping[str, str], arguments: Sequence[str]) -> bool:
    """Whether the system can start a program with these variables: each alone, and all together."""
    entries = [f"{name}={value}" for name, value in environment.items()]
    sizes = [len(os.fsencode(text)) + 1 for text in (*entries, *arguments)]
    return max(sizes) <= _LONGEST_VARIABLE and sum(sizes) + _POINTER * len(sizes) <= _longest_together()


def _longest_together() -> float:
    """Bytes of all variables and arguments. Windows limits only single variables.

    Linux gives a quarter of the stack's limit, which musl's SC_ARG_MAX does not say.
    """
    if not hasattr(os, "sysconf"):
        return inf
    if sys.platform == "linux":
        import resource  # noqa: PLC0415  Windows has no such module

        stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
        quarter = inf if stack == resource.RLIM_INFINITY else stack // 4
        return max(_LEAST_TOGETHER, min(quarter, _MOST_TOGETHER))
    limit = os.sysconf("SC_ARG_MAX")
    return inf if limit == -1 else limit


def _user(user: Mapping[str, Any]) -> dict[str, Any]:
    # Without one-time codes, which expire before the first test signs in.
    return {name: user.get(name) or {} for name in _FIELDS}
