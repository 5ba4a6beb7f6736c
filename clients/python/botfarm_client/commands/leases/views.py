"""Leases as tables and fields.

Credentials are shown to the holder: after an acquire, or when a lease is asked for by its id.
"""

import json
from collections.abc import Mapping
from typing import Any

from botfarm_client.commands.shared.key_values import format_pairs
from botfarm_client.commands.shared.output import Columns, print_fields, print_table, say
from botfarm_client.shared.durations import format_duration, format_moment, format_relative

_CREDENTIALS = frozenset({"password", "pending_password", "secrets", "totp"})


def without_passwords(lease: dict[str, Any]) -> dict[str, Any]:
    return {**lease, "users": [user_without_passwords(user) for user in lease["users"]]}


def user_without_passwords(user: dict[str, Any]) -> dict[str, Any]:
    """The user without password, secrets and one-time code."""
    return {name: value for name, value in user.items() if name not in _CREDENTIALS}


def print_leases(leases: list[dict[str, Any]], names: Mapping[str, str]) -> None:
    columns: Columns = {
        "project": lambda lease: names.get(lease["project_id"], lease["project_id"]),
        "env": lambda lease: lease["env"],
        "domain": lambda lease: lease["domain"],
        "users": _logins,
        "owner": lambda lease: lease["owner"],
        "taken": lambda lease: format_relative(lease["acquired_at"]),
        "ends": _end,
        "id": lambda lease: lease["id"],
    }
    print_table(columns, leases)


def print_lease(lease: dict[str, Any], *, project: str) -> None:
    print_fields(
        {
            "lease": lease["id"],
            "project": project,
            "env": lease["env"],
            "domain": lease["domain"],
            "owner": lease["owner"],
            "metadata": format_pairs(lease["metadata"]),
            "taken": format_moment(lease["acquired_at"]),
            "ends": _end(lease),
            "renewable until": "" if lease["ended_at"] else format_moment(lease["hold_until"]),
        }
    )
    columns: Columns = {
        "login": lambda user: user["login"],
        "password": lambda user: user.get("password"),
        "pending_password": lambda user: user.get("pending_password"),
        "totp": _totp,
        "labels": lambda user: format_pairs(user["labels"]),
        "id": lambda user: user["id"],
    }
    missing = {name for name in _CREDENTIALS if not any(user.get(name) for user in lease["users"])}
    say()
    print_table({name: cell for name, cell in columns.items() if name not in missing}, lease["users"])
    if "secrets" not in missing:
        say()
        print_fields({f"secrets of {user['login']}": _secrets(user) for user in lease["users"]})


def _totp(user: dict[str, Any]) -> str:
    """`123456 (17s)`: the code, and how long it is valid."""
    totp = user.get("totp")
    return f"{totp['code']} ({format_duration(totp['expires_in'])})" if totp else ""


def _secrets(user: dict[str, Any]) -> str:
    return json.dumps(user["secrets"], ensure_ascii=False) if user.get("secrets") else ""


def _logins(lease: dict[str, Any]) -> str:
    return ", ".join(user["login"] for user in lease["users"])


def _end(lease: dict[str, Any]) -> str:
    if lease["ended_at"] is None:
        return f"in {format_duration(lease['expires_in'])}"
    outcome = f" ({lease['outcome']})" if lease["outcome"] else ""
    return f"{lease['ended_by']}{outcome} {format_relative(lease['ended_at'])}"
