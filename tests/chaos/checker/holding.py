"""Nobody twice: no two runners hold one user at the same time."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.checker.changes import TAKES_EFFECT_WITHIN
from chaos.checker.fences import by_fence, granted_between
from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import CLOCK_MARGIN, Seen, may_have_happened, users_of
from chaos.checker.violations import Violation, shown
from chaos.history import Call, Fault

NOBODY_TWICE = "nobody twice"

ROUNDING = 0.001
"""Seconds: `expires_in` is rounded to milliseconds."""
UNNOTICED_STEP = 2.0
"""Seconds: shorter steps of the clock of the database are not noticed (docs/leases.md, The clock)."""
STARTS_PROCESSES = frozenset({"kill", "terminate", "vanish", "upgrade", "rotate_keys"})
"""Faults in which a process of the farm starts."""


@dataclass(slots=True)
class Hold:
    """From when to when a runner knew, by its own clock, that it held the users of a lease."""

    lease: str
    users: list[str]
    since: float
    until: float
    deadline: float
    """Until then it would have lasted without a release of its own."""
    granted: Call
    """The call whose answer began it."""
    prolonged: Call
    """The call whose answer says how long it lasts."""


def nobody_twice(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A user is in at most one live lease (docs/leases.md, rule 1), as its holders count it.

    A holder counts from the moment before it sent the acquire or the renewal (decision 0021). It holds nothing
    before it has read an answer, and nothing after it has sent a release. An answer that comes after the deadline
    that the holder knew brings nothing back, except a retry of the acquire under its key. A forced release is
    not told to the holder; what is promised then is a rest of the users for the lock-delay, so a hold ends with it.

    A step back ends no hold. A step forward during the hold is noticed only beyond two seconds, and not by a process
    that starts within seconds after it (docs/leases.md, The clock). So such a hold counts until two seconds before its
    end, and is left out if a process started near that step.
    """
    of_users: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds(seen):
        for user in hold.users:
            of_users[user].append(hold)
    steps = [fault for fault in seen.faults if fault.stepped > 0]
    for user, of_user in of_users.items():
        of_user.sort(key=lambda hold: hold.since)
        yield from _overlaps(seen, steps, user, of_user)
    yield from _overlapping_leases(seen, kept)


def holds(seen: Seen) -> Iterator[Hold]:
    for lease_id, acquires in seen.acquires.items():
        released, forced = _released_at(seen, lease_id, acquires[0]), _forced_at(seen, lease_id)
        for hold in _holds_of(lease_id, acquires, seen.renewals.get(lease_id, [])):
            hold.deadline = min(hold.until, forced)
            hold.until = min(hold.deadline, released)
            if hold.since < hold.until:
                yield hold


def _holds_of(lease_id: str, acquires: list[Call], renewals: list[Call]) -> Iterator[Hold]:
    answers = [(call.ended_at, True, call) for call in acquires] + [
        (call.ended_at, False, call) for call in renewals
    ]
    hold: Hold | None = None
    for read_at, begins, call in sorted(answers, key=lambda answer: answer[0]):
        until = call.sent_at + call.answer["expires_in"] - ROUNDING
        if hold is not None and read_at < hold.until:
            if until > hold.until:
                hold.until, hold.prolonged = until, call
        elif begins and read_at < until:
            if hold is not None:
                yield hold
            hold = Hold(lease_id, users_of(call), read_at, until, until, call, call)
    if hold is not None:
        yield hold


def _forced_at(seen: Seen, lease_id: str) -> float:
    """When somebody else may have ended it; else infinity."""
    ends = (call.sent_at for call in seen.forced.get(lease_id, ()) if may_have_happened(call))
    return min(ends, default=float("inf"))


def _released_at(seen: Seen, lease_id: str, acquire: Call) -> float:
    """When a release of its principal was sent; else infinity.

    A release with another token ends nothing, unless the farm says so.
    """
    ends = [
        call.sent_at
        for call in seen.releases.get(lease_id, ())
        if call.principal == acquire.principal or call.status == 200
    ]
    if acquire.operation == "acquire_lock":
        ends += [
            call.sent_at
            for call in seen.lock_releases.get(users_of(acquire)[0], ())
            if call.principal == acquire.principal
            and call.ended_at + (TAKES_EFFECT_WITHIN if call.status is None else 0) > acquire.sent_at
        ]
    return min(ends, default=float("inf"))


def _overlaps(seen: Seen, steps: list[Fault], user: str, holds: list[Hold]) -> Iterator[Violation]:
    """Compares each hold, by its beginning, with the one before it, and with all that go on since longer."""
    earlier: list[Hold] = []
    for hold in holds:
        for before in earlier:
            until = _protected_until(seen, steps, before, hold) if before.lease != hold.lease else None
            seen.compared[NOBODY_TWICE] += until is not None
            if until is not None and hold.since < until:
                yield _twice(user, before, hold)
        earlier = [each for each in (*earlier, hold) if each.until > hold.since]


def _protected_until(seen: Seen, steps: list[Fault], first: Hold, second: Hold) -> float | None:
    """Until when the farm gives the users of the first hold to nobody else; None if it cannot know.

    A renewal that was answered after a step says how long the lease lasts by the stepped clock.
    """
    during = [
        step for step in steps if first.prolonged.sent_at <= step.ended_at and step.began_at <= second.since
    ]
    if any(_starts_near(fault, step) for step in during for fault in seen.faults):
        return None
    return first.until - UNNOTICED_STEP if during else first.until


def _starts_near(fault: Fault, step: Fault) -> bool:
    return (
        fault.kind in STARTS_PROCESSES
        and fault.began_at <= step.ended_at + CLOCK_MARGIN
        and fault.ended_at >= step.began_at - CLOCK_MARGIN
    )


def _twice(user: str, first: Hold, second: Hold) -> Violation:
    return Violation(
        NOBODY_TWICE,
        f"user {user} was held by {second.granted.client} with lease {second.lease} from {second.since:.3f} s on, "
        f"and by {first.granted.client} with lease {first.lease} until {first.until:.3f} s",
        tuple(dict.fromkeys(map(shown, (first.granted, first.prolonged, second.granted)))),
    )


def _overlapping_leases(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """The same with the leases in the database, among which are those whose answers were lost.

    Left out where its clock was stepped while the two leases were granted, because then their times do not compare.
    """
    last: dict[str, KeptLease] = {}
    granted = granted_between(seen, kept)
    for lease in by_fence(kept):
        for user in lease.users:
            before, last[user] = last.get(user), lease
            if before is None or seen.clock_stepped(granted[before.fence][0], granted[lease.fence][1]):
                continue
            seen.compared[NOBODY_TWICE] += 1
            if lease.acquired_at < before.end:
                yield Violation(
                    NOBODY_TWICE,
                    f"user {user} is in lease {lease.id} from {lease.acquired_at} on, "
                    f"and in lease {before.id} until {before.end} ({before.ended_by}), says the database",
                    tuple(
                        shown(call) for each in (before, lease) for call in seen.acquires.get(each.id, ())[:1]
                    ),
                )
