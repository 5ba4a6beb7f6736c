"""Which users a call changes: by an id, by a filter, or by the page's form of many."""

from collections.abc import Mapping

from chaos.checker.seen import may_have_happened
from chaos.history import PAGE, Call


def changes_many(call: Call, action: str) -> bool:
    """Whether it may have done this to the users of a filter."""
    if call.operation == PAGE:
        return call.method == "POST" and call.path.startswith("/ui/users/bulk") and may_have_happened(call)
    is_bulk = call.operation == "change_users" and isinstance(call.body, dict)
    return (
        is_bulk and call.body["action"] == action and not call.body.get("dry_run") and may_have_happened(call)
    )


def changes_one(call: Call, action: str) -> bool:
    """Whether it may have done this to the user that its path names: by the API, or by the user's page."""
    is_page = (
        call.method == "POST" and call.path.startswith("/ui/users/") and call.path.endswith(f"/{action}")
    )
    return (call.operation == f"{action}_user" or is_page) and may_have_happened(call)


def may_match(call: Call, labels: Mapping[str, str]) -> bool:
    """Whether the filter may choose users with these labels. Those of the page's form are not looked at."""
    chosen = call.body.get("filter") if isinstance(call.body, dict) else None
    wanted = (chosen or {}).get("labels") or {}
    return all(labels.get(name) == value for name, value in wanted.items())
