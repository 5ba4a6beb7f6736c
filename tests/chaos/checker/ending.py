"""At the end every user is free, every ticket gone, and every process alive."""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta

from chaos.checker.changes import changes_many, changes_one, may_match
from chaos.checker.kept import Kept, Row
from chaos.checker.seen import Seen, may_have_happened, user_in
from chaos.checker.violations import Violation, shown
from chaos.history import BREAKDOWN, Call

ALL_FREE = "all free at the end"

PRUNING = timedelta(seconds=120)
"""A ticket is pruned 60 seconds after its deadline, by a job that runs every minute at the latest."""
PRUNED_AGAIN = timedelta(seconds=60)
"""How much later the job runs again that a fault has failed."""


def all_free(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """No lease is live, no ticket waits, and each user can be had (docs/leases.md, rules 3 and 4; docs/waiting.md).

    The run ends after the last TTL, lock-delay and kept place, and when quarantined users were restored and dirty ones
    cleaned. So each user is active, unless somebody has retired it. A step back of the database's clock prolongs what
    a killed replica left, so then tickets may still be there. What broke down without a plan is named as well.
    """
    is_stepped = seen.clock_stepped(float("-inf"), float("inf"))
    for fault in seen.faults:
        if fault.kind == BREAKDOWN:
            yield Violation(
                ALL_FREE, f"{fault.target} {fault.note} ({fault.began_at:.3f} to {fault.ended_at:.3f} s)"
            )
    for lease in kept.leases.values():
        seen.compared[ALL_FREE] += 1
        if lease.ended_at is None and lease.expires_at > kept.now:
            holders = tuple(shown(call) for call in seen.acquires.get(lease.id, ()))
            yield Violation(
                ALL_FREE, f"lease {lease.id} of {lease.principal} is live until {lease.expires_at}", holders
            )
    pruning = PRUNING + PRUNED_AGAIN if _is_pruning_disturbed(seen) else PRUNING
    for ticket in kept.tickets:
        waits = ticket["replica"] is not None and ticket["deadline"] > kept.now and not is_stepped
        if waits or ticket["deadline"] < kept.now - pruning:
            yield Violation(
                ALL_FREE,
                f"ticket {ticket['id']} of {ticket['principal']} is there, until {ticket['deadline']}",
            )
    retiring = [call for call in seen.calls if _retires(call)]
    for user_id, user in kept.users.items():
        seen.compared[ALL_FREE] += 1
        if (wrong := _not_free(user, kept, retiring)) is not None:
            yield Violation(ALL_FREE, f"user {user_id} ({user['login']}) {wrong}")


def _is_pruning_disturbed(seen: Seen) -> bool:
    """Whether there was a fault when the oldest ticket that may be left was to be pruned, or since."""
    moments = [call.ended_at for call in seen.calls] + [fault.ended_at for fault in seen.faults]
    since = max(moments, default=0.0) - PRUNING.total_seconds()
    return any(fault.ended_at > since for fault in seen.faults if fault.is_done)


def _retires(call: Call) -> bool:
    """Whether it may have retired users: by hand, many by a filter, or those that a file no longer names."""
    is_file = call.operation == "apply_config" and bool(call.body.get("prune")) and may_have_happened(call)
    return is_file or changes_many(call, "retire") or changes_one(call, "retire")


def _not_free(user: Row, kept: Kept, retiring: Iterable[Call]) -> str | None:
    rest = user["available_at"] - kept.now
    match user["status"]:
        case "active":
            return f"rests for another {rest}" if rest > timedelta(0) else None
        case "retired":
            is_meant = any(_is_among(user, call) for call in retiring)
            return None if is_meant else f"is retired by {user['status_by']}, and no call did so"
        case status:
            return f"is {status} by {user['status_by']}"


def _is_among(user: Row, call: Call) -> bool:
    if call.operation == "apply_config":
        return user["managed_by"] is not None
    if changes_one(call, "retire"):
        return user_in(call) == str(user["id"])
    return may_match(call, json.loads(user["labels"]))
