"""Nobody twice: no two runners hold one user at the same time."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen, may_have_happened, users_of
from chaos.checker.violations import Violation, shown
from chaos.history import CLOCK_STEP, Call

NOBODY_TWICE = "nobody twice"

ROUNDING = 0.001
"""Seconds: `expires_in` is rounded to milliseconds."""
UNNOTICED_STEP = 2.0
"""Seconds: shorter steps of the clock of the database are not noticed (docs/leases.md, The clock)."""
STILL_UNDER_WAY = 60.0
"""Seconds for which a request whose caller gave up may still reach the farm."""


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

    A step of the database's clock is noticed only beyond two seconds, and not by a process that starts within
    seconds after it. So holds that a step touches end two seconds earlier, and are left out where any other fault
    began within seconds of the step.
    """
    of_users: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds(seen):
        for user in hold.users:
            of_users[user].append(hold)
    for user, of_user in of_users.items():
        of_user.sort(key=lambda hold: hold.since)
        yield from _overlaps(seen, user, of_user)
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
            and call.ended_at + (STILL_UNDER_WAY if call.status is None else 0) > acquire.sent_at
        ]
    return min(ends, default=float("inf"))


def _overlaps(seen: Seen, user: str, holds: list[Hold]) -> Iterator[Violation]:
    """Compares each hold, by its beginning, with the one before it that lasts longest."""
    longest: Hold | None = None
    for hold in holds:
        is_twice = longest is not None and hold.lease != longest.lease and hold.since < longest.until
        if longest is not None and is_twice and not _is_excused(seen, longest, hold):
            yield _twice(user, longest, hold)
        if longest is None or hold.until > longest.until:
            longest = hold


def _is_excused(seen: Seen, first: Hold, second: Hold) -> bool:
    if not seen.clock_stepped(first.granted.sent_at, second.since):
        return False
    if second.since >= first.until - UNNOTICED_STEP:
        return True
    return any(
        seen.clock_stepped(fault.began_at, fault.ended_at)
        for fault in seen.faults
        if fault.kind != CLOCK_STEP and fault.began_at <= second.since
    )


def _twice(user: str, first: Hold, second: Hold) -> Violation:
    return Violation(
        NOBODY_TWICE,
        f"user {user} was held by {second.granted.client} with lease {second.lease} from {second.since:.3f} s on, "
        f"and by {first.granted.client} with lease {first.lease} until {first.until:.3f} s",
        tuple(dict.fromkeys(map(shown, (first.granted, first.prolonged, second.granted)))),
    )


def _overlapping_leases(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """The same by what the database kept, which also has leases whose answers were lost.

    Left out where its clock was stepped while the two leases were granted, because then their times do not compare.
    """
    last: dict[str, KeptLease] = {}
    sent_at = _grants_by_time(seen, kept)
    for lease in sorted(kept.leases.values(), key=lambda lease: lease.fence):
        for user in lease.users:
            before = last.get(user)
            overlap = before is not None and lease.acquired_at < before.end
            if (
                before is not None
                and overlap
                and not seen.clock_stepped(sent_at[before.fence], sent_at[lease.fence])
            ):
                yield Violation(
                    NOBODY_TWICE,
                    f"user {user} is in lease {lease.id} from {lease.acquired_at} on, "
                    f"and in lease {before.id} until {before.end} ({before.ended_by}), says the database",
                    tuple(
                        shown(call) for each in (before, lease) for call in seen.acquires.get(each.id, ())[:1]
                    ),
                )
            last[user] = lease


def _grants_by_time(seen: Seen, kept: Kept) -> dict[int, float]:
    """By fence, when the lease was asked for; of a lease that nobody was answered with, when the one before was."""
    known = {lease_id: call.sent_at for lease_id, call in seen.granted()}
    times: dict[int, float] = {}
    latest = 0.0
    for lease in sorted(kept.leases.values(), key=lambda lease: lease.fence):
        latest = times[lease.fence] = max(latest, known.get(lease.id, latest))
    return times
