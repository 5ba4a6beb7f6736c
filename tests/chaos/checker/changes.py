"""Which users a change is about, by an id, a filter or the page, and whether it may come after another one."""

from collections.abc import Mapping

from chaos.checker.seen import may_have_happened
from chaos.history import PAGE, Call

TAKES_EFFECT_WITHIN = 15.0
"""Seconds after a client has given up, in which a request may still be carried out: a process is paused for seven
seconds at most, a connection is silent for four, and a statement waits for a lock for two."""


def may_follow(call: Call, other: Call) -> bool:
    """Whether it may have taken effect after the other one."""
    is_answered = call.status is not None and call.status < 500
    return call.ended_at + (0 if is_answered else TAKES_EFFECT_WITHIN) > other.sent_at


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
