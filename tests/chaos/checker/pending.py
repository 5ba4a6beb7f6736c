"""No pending password in a test's hand."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from chaos.checker.effects import DONE, Effects
from chaos.checker.kept import Kept
from chaos.checker.seen import ACQUIRES, Seen, lease_in, may_have_happened, user_in
from chaos.checker.spans import Spans
from chaos.checker.violations import Violation, shown
from chaos.history import Call

PENDING_KEPT = "no pending password for a test"

_WRITES = frozenset({"write_back", "update_user"})


@dataclass(frozen=True, slots=True)
class _Pending:
    """A password of a user was pending at a moment of this time, as an answer shows."""

    since: float
    until: float
    call: Call


@dataclass(slots=True)
class _Rotations:
    """Of one user."""

    pending: list[_Pending] = field(default_factory=list)
    ends: list[tuple[float, float]] = field(default_factory=list)
    """Of calls that were answered with success."""
    perhaps_ends: list[tuple[float, float]] = field(default_factory=list)


def pending_kept(seen: Seen, _: Kept) -> Iterator[Violation]:
    """No test gets a user whose new password is pending (docs/stock.md, Chores), nor that password.

    A rotation goes on from an answer that shows it until somebody confirms it or writes another password. An import
    ends none: it refuses another password for such a user. Where an end was not acknowledged, the rotation may go on
    or not, and is left out.
    """
    rotations = {user: _Order(each) for user, each in _rotations(seen).items() if each.pending}
    for lease_id, call in seen.granted():
        if call.answer.get("purpose") != "test":
            continue
        asked_at = seen.asked_at(call)
        for user in call.answer["users"]:
            if "pending_password" in user:
                what = f"{call.client} got the pending password of user {user['id']} with lease {lease_id} of a test"
                yield Violation(PENDING_KEPT, what, (shown(call),))
                continue
            order = rotations.get(user["id"])
            last = order.last_before(asked_at) if order else None
            if order is None or last is None:
                continue
            has_ended = order.ends.meet(last.since, call.ended_at)
            if not has_ended and order.perhaps_ends.meet(last.since, call.ended_at):
                continue
            seen.compared[PENDING_KEPT] += 1
            if not has_ended:
                what = (
                    f"{call.client} got user {user['id']} for a test, by lease {lease_id}, while a new password "
                    "is pending"
                )
                yield Violation(PENDING_KEPT, what, (shown(last.call), shown(call)))


class _Order:
    def __init__(self, rotations: _Rotations) -> None:
        pending = sorted(rotations.pending, key=lambda each: each.until)
        self._untils = [each.until for each in pending]
        self._last = list(accumulate(pending, _later))
        self.ends = Spans(rotations.ends)
        self.perhaps_ends = Spans(rotations.perhaps_ends)

    def last_before(self, moment: float) -> _Pending | None:
        known = bisect_left(self._untils, moment)
        return self._last[known - 1] if known else None


def _later(first: _Pending, second: _Pending) -> _Pending:
    return max(first, second, key=lambda each: each.since)


def _rotations(seen: Seen) -> dict[str, _Rotations]:
    effects = Effects(seen)
    rotations: dict[str, _Rotations] = defaultdict(_Rotations)
    for call in seen.calls:
        for user, since in _shows(seen, call):
            rotations[user].pending.append(_Pending(since, call.ended_at, call))
        if _ends_one(call) and may_have_happened(call):
            of_user = rotations[user_in(call)]
            ends = of_user.ends if call.status in DONE else of_user.perhaps_ends
            ends.append((call.sent_at, effects.over_at(call)))
    return rotations


def _shows(seen: Seen, call: Call) -> Iterable[tuple[str, float]]:
    """The users whose pending password is in the answer, and since when it may have been read."""
    if call.operation == "start_rotation" and call.status == 200:
        return [(user_in(call), call.sent_at)]
    if call.operation in ACQUIRES and lease_in(call) is not None:
        users = (user["id"] for user in call.answer["users"] if "pending_password" in user)
        return [(user, seen.asked_at(call)) for user in users]
    return ()


def _ends_one(call: Call) -> bool:
    if call.operation in _WRITES:
        return isinstance(call.body, dict) and bool(call.body.get("password"))
    return call.operation == "confirm_rotation"
