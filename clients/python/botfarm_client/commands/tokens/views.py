from collections.abc import Mapping
from typing import Any

from botfarm_client.commands.shared.output import Columns, print_table
from botfarm_client.shared.durations import format_relative


def print_tokens(tokens: list[dict[str, Any]], names: Mapping[str, str]) -> None:
    columns: Columns = {
        "name": lambda token: token["name"],
        "role": lambda token: token["role"],
        "projects": lambda token: ", ".join(names.get(project, project) for project in token["projects"]),
        "envs": lambda token: ", ".join(token["envs"]),
        "max leases": lambda token: token["max_leases"],
        "used": lambda token: format_relative(token["last_used_at"]) or "never",
        "ends": _end,
        "id": lambda token: token["id"],
    }
    print_table(columns, tokens)


def _end(token: dict[str, Any]) -> str:
    if token["revoked_at"] is not None:
        return f"revoked {format_relative(token['revoked_at'])}"
    return format_relative(token["expires_at"])
