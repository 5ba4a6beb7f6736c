"""Users as tables and fields."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botfarm_client.commands.shared.key_values import format_pairs
from botfarm_client.commands.shared.lookups import project_names
from botfarm_client.commands.shared.output import Columns, print_fields, print_table
from botfarm_client.shared.durations import format_moment, format_relative

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection


def print_users(users: list[dict[str, Any]], names: Mapping[str, str]) -> None:
    columns: Columns = {
        "login": lambda user: user["login"],
        "project": lambda user: names.get(user["project_id"], user["project_id"]),
        "env": lambda user: user["env"],
        "domain": lambda user: user["domain"],
        "state": lambda user: user["state"],
        "free": lambda user: format_relative(_free_at(user)),
        "has": lambda user: ", ".join(_extras(user)),
        "labels": lambda user: format_pairs(user["labels"]),
        "id": lambda user: user["id"],
    }
    if not any(map(_extras, users)):
        columns = {name: cell for name, cell in columns.items() if name != "has"}
    print_table(columns, users)


def print_user(user: dict[str, Any], farm: "Connection") -> None:
    names = project_names(farm)
    print_fields(
        {
            "login": user["login"],
            "id": user["id"],
            "project": names.get(user["project_id"], user["project_id"]),
            "env": user["env"],
            "domain": user["domain"],
            "state": user["state"],
            "free": format_moment(_free_at(user)),
            **_status(user),
            "health": " ".join(filter(None, (user["health"], user["health_reason"]))),
            "checked": format_moment(user["checked_at"]),
            "failures": user["failures"] or None,
            "rotation": "under way" if user["is_rotating"] else None,
            "has": ", ".join(["password", *_extras(user)]),
            "labels": format_pairs(user["labels"]),
            "created": format_moment(user["created_at"]),
            **_last_lease(user.get("last_lease")),
        }
    )


def _status(user: dict[str, Any]) -> dict[str, object]:
    if user["status"] == "active":
        return {}
    return {
        user["status"]: format_moment(user["status_since"]),
        "until": format_moment(user["status_until"]),
        "by": user["status_by"],
        "reason": user["status_reason"],
    }


def _extras(user: dict[str, Any]) -> list[str]:
    """Which of the optional credentials the user has."""
    return [name for name in ("secrets", "totp") if user.get(f"has_{name}")]


def _free_at(user: dict[str, Any]) -> str | None:
    """When the user is free by time alone. Its lease may end earlier."""
    return str(user["available_at"]) if user["state"] in {"leased", "resting"} else None


def _last_lease(lease: dict[str, Any] | None) -> dict[str, object]:
    if lease is None:
        return {}
    return {
        "last lease": lease["id"],
        "taken by": lease["principal"],
        "owner": lease["owner"],
        "metadata": format_pairs(lease["metadata"]),
        "taken": format_moment(lease["acquired_at"]),
        "ended": format_moment(lease["ended_at"]),
        "ended by": lease["ended_by"],
        "outcome": lease["outcome"],
        "note": lease["note"],
    }
