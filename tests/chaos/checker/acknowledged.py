"""Nothing that was acknowledged is lost."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from chaos.checker.acknowledged_changes import changes_that_are_lost
from chaos.checker.acknowledged_users import quarantines_that_are_lost, users_that_are_missing
from chaos.checker.holding import Hold, holds
from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen, asked_for, lease_in, lease_named, users_of
from chaos.checker.violations import Violation, shown, slug_of
from chaos.history import Call

NOTHING_LOST = "nothing lost"
HOLDERS_KNOW = "no live lease is refused"

TOO_MANY = 429
_LOST = frozenset({"lease-lapsed", "no-such-lease", "not-the-holder"})


def nothing_lost(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """What was answered with success is in the database, because the commit comes before the answer.

    Each lease is there with its fence and users, with an end that is not before any that was answered, and ended as
    its release was answered. Users that were made are there, and quarantines last, unless somebody may have deleted
    or restored the users. Other changes are in the audit, as often as they were answered; revoked tokens are revoked,
    and policies are as they were changed last.
    """
    for lease_id, calls in seen.acquires.items():
        seen.compared[NOTHING_LOST] += 1
        yield from _of_lease(lease_id, [*calls, *seen.renewals.get(lease_id, ())], kept)
    for calls in (*seen.releases.values(), *seen.forced.values()):
        for call in calls:
            is_end = call.status == 200 and isinstance(call.answer, dict) and "fence" in call.answer
            if is_end and not _may_live_again(seen, call):
                seen.compared[NOTHING_LOST] += 1
                yield from _of_end(call, kept.leases.get(str(call.answer["id"])))
    yield from users_that_are_missing(NOTHING_LOST, seen, kept)
    yield from quarantines_that_are_lost(NOTHING_LOST, seen, kept)
    yield from changes_that_are_lost(NOTHING_LOST, seen, kept)


def _of_lease(lease_id: str, answered: list[Call], kept: Kept) -> Iterator[Violation]:
    stored = kept.leases.get(lease_id)
    first = answered[0]
    if stored is None:
        yield Violation(
            NOTHING_LOST, f"lease {lease_id} of {first.client} is not in the database", (shown(first),)
        )
        return
    if (stored.fence, set(stored.users)) != (first.answer["fence"], set(users_of(first))):
        what = f"lease {lease_id} of {first.client} has another fence or other users in the database"
        yield Violation(
            NOTHING_LOST, what, (shown(first), f"the database: fence {stored.fence}, users {stored.users}")
        )
    latest = max(answered, key=lambda call: datetime.fromisoformat(call.answer["expires_at"]))
    if stored.expires_at < datetime.fromisoformat(latest.answer["expires_at"]):
        yield Violation(
            NOTHING_LOST,
            f"lease {lease_id} was to live until {latest.answer['expires_at']}, as {latest.client} was told, "
            f"and the database has {stored.expires_at}",
            (shown(latest),),
        )


def _may_live_again(seen: Seen, call: Call) -> bool:
    """Whether it told that the lease had expired, which no worker had stored yet when the clock was stepped back."""
    return call.answer["ended_by"] == "expired" and seen.clock_stepped(call.sent_at, float("inf"))


def _of_end(call: Call, stored: KeptLease | None) -> Iterator[Violation]:
    told = (call.answer["ended_at"], call.answer["ended_by"], call.answer["outcome"])
    if stored is None:
        yield Violation(NOTHING_LOST, f"lease {call.answer['id']} is not in the database", (shown(call),))
        return
    ended_at = stored.ended_at and stored.ended_at.isoformat()
    same_time = told[0] is not None and stored.ended_at == datetime.fromisoformat(told[0])
    if not same_time or told[1:] != (stored.ended_by, stored.outcome):
        yield Violation(
            NOTHING_LOST,
            f"lease {stored.id} ended at {told[0]} ({told[1]}, {told[2]}), as {call.client} was told, and the database "
            f"has {ended_at} ({stored.ended_by}, {stored.outcome})",
            (shown(call),),
        )


def holders_know(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A holder is not told that its lease has ended before its end (docs/leases.md, rules 3 and 7; decision 0021).

    Unless somebody forced the release. Until then a retry of its acquire under the same key is answered with the
    lease. When the database's clock is stepped forwards, leases end at once and their holders are told so
    (docs/leases.md, The clock), so what was told about a lease that lived through a step is left out.
    """
    of_leases: dict[str, list[Hold]] = defaultdict(list)
    for hold in holds(seen):
        of_leases[hold.lease].append(hold)
    for call in seen.calls:
        if call.status is None or call.status >= 500:
            continue
        for hold in of_leases.get(lease_named(call) or "", ()):
            if not _is_known(hold, call) or _may_have_ended(seen, hold, call):
                continue
            seen.compared[HOLDERS_KNOW] += 1
            if slug_of(call) in _LOST:
                yield Violation(
                    HOLDERS_KNOW,
                    f"{call.client} was told {slug_of(call)} at {call.ended_at:.3f} s about lease {hold.lease}, "
                    f"which it held until {hold.deadline:.3f} s",
                    tuple(dict.fromkeys(map(shown, (hold.granted, hold.prolonged, call)))),
                )
    for hold in (hold for held in of_leases.values() for hold in held):
        yield from _refused_retries(seen, hold)


def _refused_retries(seen: Seen, hold: Hold) -> Iterator[Violation]:
    for call in seen.under_key.get((hold.granted.principal, hold.granted.key or ""), ()):
        is_answered = call.status is not None and call.status < 500 and call.status != TOO_MANY
        if not is_answered or not _is_known(hold, call) or asked_for(call) != asked_for(hold.granted):
            continue
        if _may_have_ended(seen, hold, call):
            continue
        seen.compared[HOLDERS_KNOW] += 1
        if lease_in(call) is None:
            yield Violation(
                HOLDERS_KNOW,
                f"{call.client} was told {slug_of(call)} at {call.ended_at:.3f} s under the key of lease {hold.lease}, "
                f"which it held until {hold.deadline:.3f} s",
                tuple(map(shown, (hold.granted, call))),
            )


def _is_known(hold: Hold, call: Call) -> bool:
    """Whether it came from the holder, and was answered before the end that the holder knows of."""
    is_within = hold.since <= call.sent_at and call.ended_at < hold.deadline
    return is_within and call.principal == hold.granted.principal


def _may_have_ended(seen: Seen, hold: Hold, call: Call) -> bool:
    return _released_before(seen, hold, call) or seen.clock_stepped(hold.granted.sent_at, call.ended_at)


def _released_before(seen: Seen, hold: Hold, call: Call) -> bool:
    return any(
        each is not call and each.sent_at <= call.ended_at for each in seen.releases.get(hold.lease, ())
    )
