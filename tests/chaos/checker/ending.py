"""At the end every user is free and every ticket gone."""

from collections.abc import Iterator
from datetime import timedelta

from chaos.checker.kept import Kept, Row
from chaos.checker.seen import Seen, may_have_happened, user_in
from chaos.checker.violations import Violation, shown

ALL_FREE = "all free at the end"

PRUNING = timedelta(seconds=120)
"""A ticket is pruned 60 seconds after its deadline, by a job that runs every minute at the latest."""
PUTS_ASIDE = frozenset({"quarantine_user", "restore_user", "retire_user", "start_rotation"})
OF_MANY = frozenset({"change_users", "import_users"})


def all_free(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """No lease is live, no ticket waits, and each user can be had (docs/leases.md, rules 3 and 4; docs/waiting.md).

    Read it after the last TTL, lock-delay and kept place. Users that are not active must have been put so: by a
    call of the history or by the policy of their project, which also makes them dirty after an unconfirmed rotation.
    A step back of the database's clock prolongs what a killed replica left, so then tickets may still be there.
    """
    is_stepped = seen.clock_stepped(float("-inf"), float("inf"))
    for lease in kept.leases.values():
        if lease.ended_at is None and lease.expires_at > kept.now:
            holders = tuple(shown(call) for call in seen.acquires.get(lease.id, ()))
            yield Violation(
                ALL_FREE, f"lease {lease.id} of {lease.principal} is live until {lease.expires_at}", holders
            )
    for ticket in kept.tickets:
        waits = ticket["replica"] is not None and ticket["deadline"] > kept.now and not is_stepped
        if waits or ticket["deadline"] < kept.now - PRUNING:
            yield Violation(
                ALL_FREE,
                f"ticket {ticket['id']} of {ticket['principal']} is there, until {ticket['deadline']}",
            )
    put_aside = _put_aside(seen)
    for user_id, user in kept.users.items():
        if (wrong := _not_free(user, kept, put_aside)) is not None:
            yield Violation(ALL_FREE, f"user {user_id} ({user['login']}) {wrong}")


def _put_aside(seen: Seen) -> set[str]:
    """Users that somebody may have put aside, and `*` for many at once."""
    found: set[str] = set()
    for call in seen.calls:
        if call.operation in PUTS_ASIDE and may_have_happened(call):
            found.add(user_in(call))
        elif call.operation in OF_MANY or (call.path.startswith("/ui/users") and call.method == "POST"):
            found.add("*")
    return found


def _not_free(user: Row, kept: Kept, put_aside: set[str]) -> str | None:
    rest = user["available_at"] - kept.now
    match user["status"]:
        case "active" if rest > timedelta(0):
            return f"rests for another {rest}"
        case "dirty" | "quarantined" | "retired" as status if user["status_by"] != "policy":
            if not {str(user["id"]), "*"} & put_aside:
                return f"is {status} by {user['status_by']}, and no call did so"
    return None
