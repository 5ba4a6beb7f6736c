"""When leases were granted, those too whose answers were lost: fences have the order of grants."""

from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen


def granted_between(seen: Seen, kept: Kept) -> dict[int, tuple[float, float]]:
    """By fence: after the requests of all leases before it were sent, and before all later ones were answered."""
    calls = dict(seen.granted())
    in_order = by_fence(kept)
    earliest, latest = 0.0, float("inf")
    since: dict[int, float] = {}
    until: dict[int, float] = {}
    for lease in in_order:
        if call := calls.get(lease.id):
            earliest = max(earliest, seen.asked_at(call))
        since[lease.fence] = earliest
    for lease in reversed(in_order):
        if call := calls.get(lease.id):
            latest = min(latest, call.ended_at)
        until[lease.fence] = latest
    return {fence: (since[fence], until[fence]) for fence in since}


def by_fence(kept: Kept) -> list[KeptLease]:
    return sorted(kept.leases.values(), key=lambda lease: lease.fence)
