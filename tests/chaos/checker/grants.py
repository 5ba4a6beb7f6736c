"""Fences rise, and a key gives one lease."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from operator import attrgetter

from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen, asked_for, lease_in
from chaos.checker.violations import Violation, shown
from chaos.history import Call

FENCES_RISE = "fences rise"
ONE_LEASE_FOR_A_KEY = "one lease for a key"


def fences_rise(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A later lease has a higher fence (docs/leases.md, What exclusivity rests on).

    Of any two leases: when the answer with the first was read before the second was asked for. Of two leases of one
    user also by the database's clock, except of its clock after a step, which says nothing about their order.
    """
    granted = [(seen.asked_at(call), call, lease_id) for lease_id, call in seen.granted()]
    by_ends = sorted(granted, key=lambda grant: grant[1].ended_at)
    highest: Call | None = None
    read = 0
    for asked_at, call, lease_id in sorted(granted, key=lambda grant: grant[0]):
        while read < len(by_ends) and by_ends[read][1].ended_at < asked_at:
            if highest is None or by_ends[read][1].answer["fence"] > highest.answer["fence"]:
                highest = by_ends[read][1]
            read += 1
        seen.compared[FENCES_RISE] += highest is not None
        if highest is not None and call.answer["fence"] <= highest.answer["fence"]:
            yield Violation(
                FENCES_RISE,
                f"lease {lease_id} of {call.client} was asked for after lease {highest.answer['id']} of "
                f"{highest.client} was there, and its fence {call.answer['fence']} is not above "
                f"{highest.answer['fence']}",
                (shown(highest), shown(call)),
            )
    if not seen.clock_stepped(float("-inf"), float("inf")):
        yield from _fences_of_users(seen, kept)


def _fences_of_users(seen: Seen, kept: Kept) -> Iterator[Violation]:
    last: dict[str, KeptLease] = {}
    in_order: list[KeptLease] = sorted(kept.leases.values(), key=_acquired_at)
    for lease in in_order:
        for user in lease.users:
            before = last.get(user)
            seen.compared[FENCES_RISE] += before is not None
            if before is not None and lease.fence <= before.fence:
                yield Violation(
                    FENCES_RISE,
                    f"user {user} was granted at {lease.acquired_at} with fence {lease.fence} (lease {lease.id}), "
                    f"and before, at {before.acquired_at}, with fence {before.fence} (lease {before.id})",
                )
            last[user] = lease


_acquired_at: "attrgetter[datetime]" = attrgetter("acquired_at")


def one_lease_for_a_key(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """All answers under one key of a principal name one lease (docs/leases.md, rule 7).

    A lease is under one key, in the answers and in the database, and another request under the key gets no lease.
    """
    key_of: dict[str, tuple[str, str]] = {}
    for under, calls in seen.under_key.items():
        answered = [call for call in calls if lease_in(call)]
        seen.compared[ONE_LEASE_FOR_A_KEY] += len(answered) > 1
        yield from _one_lease(under, answered)
        for call in answered:
            lease_id = str(lease_in(call))
            other = key_of.setdefault(lease_id, under)
            stored = kept.leases.get(lease_id)
            if other != under:
                what = f"lease {lease_id} was answered under key {under[1]} of {under[0]} and {other[1]} of {other[0]}"
                yield Violation(ONE_LEASE_FOR_A_KEY, what, (shown(call),))
            elif stored is not None and stored.key != under[1]:
                what = f"lease {lease_id} was answered under key {under[1]}, the database has {stored.key}"
                yield Violation(ONE_LEASE_FOR_A_KEY, what, (shown(call),))
    yield from _keys_of_the_database(kept)


def _one_lease(under: tuple[str, str], answered: list[Call]) -> Iterator[Violation]:
    principal, key = under
    for call in answered[1:]:
        first = answered[0]
        if lease_in(call) != lease_in(first):
            yield Violation(
                ONE_LEASE_FOR_A_KEY,
                f"key {key} of {principal} gave {first.client} lease {lease_in(first)}, "
                f"and {call.client} lease {lease_in(call)}",
                (shown(first), shown(call)),
            )
        elif asked_for(call) != asked_for(first):
            yield Violation(
                ONE_LEASE_FOR_A_KEY,
                f"another request under key {key} of {principal} gave {call.client} lease {lease_in(call)} again",
                (shown(first), shown(call)),
            )


def _keys_of_the_database(kept: Kept) -> Iterator[Violation]:
    leases: dict[tuple[str, str], list[KeptLease]] = defaultdict(list)
    for lease in kept.leases.values():
        if lease.key is not None:
            leases[lease.principal, lease.key].append(lease)
    for (principal, key), under in leases.items():
        if len(under) > 1:
            named = ", ".join(lease.id for lease in under)
            yield Violation(
                ONE_LEASE_FOR_A_KEY, f"the database has several leases under {key} of {principal}: {named}"
            )
