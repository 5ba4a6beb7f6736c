"""Caps are kept."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from chaos.checker.fences import granted_between
from chaos.checker.kept import Cap, Kept, KeptLease
from chaos.checker.seen import Seen, lease_named, may_have_happened
from chaos.checker.violations import Violation
from chaos.history import Call

CAPS_KEPT = "caps kept"
Renewals = dict[str, list[Call]]
Moments = dict[int, tuple[float, float]]
"""By fence, as `granted_between` gives them."""


def caps_kept(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A token, a run of a CI, and all runs of a trust rule hold no more users than they may (docs/security.md).

    A lease whose renewal was under way when another one was granted may count as over by the end that it had before.
    By the database's clock, so not if it was stepped: a lease that a step back prolongs was not counted when it was
    granted again.
    """
    if seen.clock_stepped(float("-inf"), float("inf")):
        return
    renewals: Renewals = defaultdict(list)
    for call in seen.calls:
        if call.operation == "renew_lease" and may_have_happened(call):
            renewals[lease_named(call) or ""].append(call)
    granted = granted_between(seen, kept)
    for cap in kept.caps:
        held: dict[str, list[KeptLease]] = defaultdict(list)
        for lease in kept.leases.values():
            if lease.principal.startswith(cap.principals):
                held["" if cap.together else lease.principal].append(lease)
        for leases in held.values():
            yield from _beyond(cap, leases, seen, renewals, granted)


def _beyond(
    cap: Cap, leases: Iterable[KeptLease], seen: Seen, renewals: Renewals, granted: Moments
) -> Iterator[Violation]:
    """The first grant beyond the cap. At one moment ends come before grants."""
    ends = [(lease.end, 0, lease) for lease in leases]
    begins = [(lease.acquired_at, 1, lease) for lease in leases]
    live: dict[str, KeptLease] = {}
    for moment, is_grant, lease in sorted((*ends, *begins), key=lambda change: change[:2]):
        if not is_grant:
            live.pop(lease.id, None)
            continue
        live[lease.id] = lease
        seen.compared[CAPS_KEPT] += 1
        if _users(live.values()) > cap.most:
            counted = [
                each
                for each in live.values()
                if not _may_count_as_over(each, lease, seen, renewals, granted[lease.fence])
            ]
            if (held := _users(counted)) > cap.most:
                what = f"{lease.principal} held {held} users at {moment} with lease {lease.id}, and may hold {cap.most}"
                yield Violation(CAPS_KEPT, what)
                return


def _users(leases: Iterable[KeptLease]) -> int:
    return sum(len(lease.users) for lease in leases)


def _may_count_as_over(
    lease: KeptLease, granted: KeptLease, seen: Seen, renewals: Renewals, between: tuple[float, float]
) -> bool:
    """Whether it was over when the other one was granted, but for a renewal that was not committed by then."""
    since, until = between
    is_renewed = any(call.sent_at <= until and _ends_at(call) >= since for call in renewals[lease.id])
    return is_renewed and _end_known_at(since, lease, seen) <= granted.acquired_at


def _ends_at(call: Call) -> float:
    """A renewal whose answer was lost may be committed at any time."""
    return call.ended_at if call.status == 200 else float("inf")


def _end_known_at(moment: float, lease: KeptLease, seen: Seen) -> datetime:
    """The end that the holder had been told by then, so that it was committed."""
    told = [
        datetime.fromisoformat(call.answer["expires_at"])
        for call in (*seen.acquires.get(lease.id, ()), *seen.renewals.get(lease.id, ()))
        if call.ended_at <= moment
    ]
    return max(told, default=lease.acquired_at)
