"""A lease as environment variables, for programs of any language."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

# What a program needs; of the rest of a user, such as `locktime`, the farm can be asked.
_FIELDS = ("id", "login", "password", "labels", "secrets")

Variables = dict[str, str]


def lease_variables(lease_id: str, users: Sequence[Mapping[str, Any]]) -> Variables:
    """Those of one user are the first one's; all are in `BOTFARM_USERS`, as JSON in ASCII."""
    first = users[0]
    return {
        "BOTFARM_LEASE_ID": lease_id,
        "BOTFARM_USER_ID": first["id"],
        "BOTFARM_LOGIN": first["login"],
        "BOTFARM_PASSWORD": first["password"],
        "BOTFARM_USERS": json.dumps([_user(each) for each in users]),
    }


def shell_lines(variables: Variables) -> str:
    """For `eval "$(...)"` in a POSIX shell; exported, as it is the programs of the script that need them."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _user(user: Mapping[str, Any]) -> dict[str, Any]:
    # One-time codes are left out: they are stale before the first test has signed in.
    return {name: user.get(name) or {} for name in _FIELDS}
