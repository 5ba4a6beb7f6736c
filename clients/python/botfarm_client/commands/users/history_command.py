"""Who had a user, how that ended, and what was done to it."""

from typing import Any

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.key_values import format_pairs
from botfarm_client.commands.shared.lookups import user_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    All,
    AsJson,
    Limit,
    Url,
    UserArgument,
)
from botfarm_client.commands.shared.output import Columns, note_if_more, print_json, print_table
from botfarm_client.shared.durations import format_utc


def history(
    user: UserArgument,
    *,
    limit: Limit = DEFAULT_LIMIT,
    everything: All = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show who had a user and how that ended, and what was done to it."""
    with open_farm(url) as farm:
        path = f"/users/{user_id_of(farm, user)}/history"
        items, more = farm.pages(path, limit=None if everything else limit)
    if as_json:
        print_json({"items": items})
    else:
        print_table(_COLUMNS, items)
    note_if_more(more=more, shown=len(items))


def _what(entry: dict[str, Any]) -> str:
    lease = entry["lease"]
    return str(entry["action"]) if lease is None else str(lease["purpose"])


def _end(entry: dict[str, Any]) -> str:
    lease = entry["lease"]
    if lease is None:
        return ""
    return " ".join(filter(None, (lease["ended_by"] or "live", lease["outcome"], lease["reason"])))


def _note(entry: dict[str, Any]) -> str:
    lease = entry["lease"]
    return format_pairs(entry["details"]) if lease is None else lease["note"] or ""


_COLUMNS: Columns = {
    "at": lambda entry: format_utc(entry["at"]),
    "what": _what,
    "who": lambda entry: (entry["lease"] or {}).get("owner") or entry["principal"],
    "end": _end,
    "note": _note,
}
