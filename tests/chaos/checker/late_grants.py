"""No late grant: a wait that is over is never granted."""

from collections.abc import Iterator

from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen
from chaos.checker.violations import Violation, shown, slug_of
from chaos.checker.waiting import RECOVERS_WITHIN, is_single
from chaos.history import Call

NO_LATE_GRANT = "no late grant"

LATE = 2.0
"""Seconds by which a wait may be longer than it was asked for: its ticket is written after its request was received,
and granted by a statement that waits for locks of users before it reads the clock. Both take long on a busy machine."""


def no_late_grant(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A wait that is over is never granted (docs/waiting.md, When it is over).

    A request that was told that no user is free has no lease. One that was posted once waited no longer, by the farm's
    own account, than it asked for. Waits during a step of the database's
    clock are left out, because the account is by that clock. Those during a fault of the database or of their replica
    may be longer by the fault and the seconds after it.
    """
    for lease_id, call in seen.granted():
        asked = float(call.body.get("wait_seconds") or 0) if call.operation == "acquire_lease" else 0.0
        # A request that did not ask to wait did not, whatever its statement took.
        if asked == 0 or call.status != 201 or not is_single(seen, call):
            continue
        if seen.clock_stepped(call.sent_at, call.ended_at):
            continue
        seen.compared[NO_LATE_GRANT] += 1
        waited = call.answer.get("waited") or 0
        if waited > asked + LATE + _disturbance(seen, call):
            what = f"{call.client} got lease {lease_id} after {waited} s, and asked to wait for {asked}"
            yield Violation(NO_LATE_GRANT, what, (shown(call),))
    yield from _grants_to_refused(seen, kept)


def _disturbance(seen: Seen, call: Call) -> float:
    """Seconds by which faults of the database or of this replica may have prolonged the wait."""
    during = [
        fault
        for fault in seen.faults
        if fault.origin in {"", call.replica}
        and fault.began_at <= call.ended_at
        and fault.ended_at >= call.sent_at
    ]
    if not during:
        return 0.0
    return RECOVERS_WITHIN + sum(
        min(fault.ended_at, call.ended_at) - max(fault.began_at, call.sent_at) for fault in during
    )


def _grants_to_refused(seen: Seen, kept: Kept) -> Iterator[Violation]:
    granted = {lease.request_id: lease for lease in kept.leases.values()}
    for call in seen.calls:
        if call.operation not in ACQUIRES or slug_of(call) != "pool-exhausted":
            continue
        seen.compared[NO_LATE_GRANT] += 1
        if lease := granted.get(call.answer["request_id"]):
            what = f"{call.client} was told that no user is free, and the same request got lease {lease.id}"
            yield Violation(NO_LATE_GRANT, what, (shown(call),))
