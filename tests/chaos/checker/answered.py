"""Every request is answered, and in time."""

from collections.abc import Iterator

from chaos.checker.kept import Kept
from chaos.checker.late_grants import LATE
from chaos.checker.seen import ACQUIRES, Seen
from chaos.checker.violations import Violation, shown
from chaos.checker.waiting import RECOVERS_WITHIN
from chaos.history import BROKEN_OFF, PATIENCE, Call

ANSWERED = "answered in time"
_SLOW = frozenset({"get_capacity"})


def answered(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A request whose caller waits for the answer gets one (docs/invariants.md, No lost wake).

    That is six seconds, and an acquire two, after the time that it asked to wait. Left out are requests during a fault
    of their replica or of the database, and in the seconds after it. So are questions for the capacity, whose answer
    may take longer than a client waits (docs/capacity.md).
    """
    for call in seen.calls:
        if call.error == BROKEN_OFF or call.operation in _SLOW or _hung_up_early(call):
            continue
        if seen.disturbed(call.replica, call.sent_at - RECOVERS_WITHIN, call.ended_at):
            continue
        seen.compared[ANSWERED] += 1
        took = call.ended_at - call.sent_at
        if call.status is None:
            what = f"{call.client} got no answer of {call.operation} within {took:.3f} s ({call.error})"
            yield Violation(ANSWERED, what, (shown(call),))
        elif call.operation in ACQUIRES and took > _wait(call) + LATE:
            what = f"{call.client} asked to wait for {_wait(call)} s, and was answered after {took:.3f} s"
            yield Violation(ANSWERED, what, (shown(call),))


def _hung_up_early(call: Call) -> bool:
    is_hung_up = call.status is None and call.error.startswith("hung up")
    return is_hung_up and call.ended_at - call.sent_at < PATIENCE + _wait(call)


def _wait(call: Call) -> float:
    return float(call.body.get("wait_seconds") or 0) if isinstance(call.body, dict) else 0.0
