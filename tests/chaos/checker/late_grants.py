"""No late grant: a wait that is over is never granted."""

from collections.abc import Iterator

from chaos.checker.kept import Kept
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation, shown, slug_of
from chaos.checker.waiting import HEARTBEAT, is_single
from chaos.history import Call

NO_LATE_GRANT = "no late grant"

LATE = 2.0
"""Seconds by which a wait may be longer than it was asked for: its ticket is written after its request was received,
and granted by a statement that waits for locks of users before it reads the clock. Both take long on a busy machine."""


def no_late_grant(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A wait that is over is never granted (docs/waiting.md, When it is over).

    A request that was posted once waited no longer, by the farm's own account, than it asked for. A key whose last
    call was refused, with all calls before it over by then, has no lease. Waits during a step of the database's
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
    yield from _grants_of_refused_keys(seen, kept)


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
    return HEARTBEAT + sum(
        min(fault.ended_at, call.ended_at) - max(fault.began_at, call.sent_at) for fault in during
    )


def _grants_of_refused_keys(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A call that got no answer or a server error may go on at the farm, and is not over."""
    unseen = {lease.key: lease for lease in kept.leases.values() if lease.id not in seen.acquires}
    for (_, key), calls in seen.under_key.items():
        last = max(calls, key=lambda call: call.sent_at)
        others = [call for call in calls if call is not last]
        are_over = all(
            call.status is not None and call.status < 500 and call.ended_at <= last.sent_at for call in others
        )
        if not are_over or slug_of(last) != "pool-exhausted":
            continue
        seen.compared[NO_LATE_GRANT] += 1
        if key in unseen:
            what = f"key {key} was refused to {last.client}, and has lease {unseen[key].id}"
            yield Violation(NO_LATE_GRANT, what, (shown(last),))
