"""Waits in order, and none granted after its end."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation, shown, slug_of
from chaos.history import Call

IN_ORDER = "waits in order"
NO_LATE_GRANT = "no late grant"

PRIORITY_STEP = 60.0
"""Seconds of waiting that a step of priority counts as (docs/waiting.md, The order)."""
OUT_OF_ORDER = 1.0
"""Seconds by which a request may be later and all the same be served first, and by which it may be served sooner.
Across replicas, and while a queue forms, the order holds to some milliseconds only (docs/waiting.md, The order). A run
has all processes of the farm on one machine: one that begins may take a second to write the tickets of its requests."""
HEARTBEAT = 6.0
"""Seconds after a fault in which tickets of a replica may not count: five without a heartbeat, and one between two."""
LATE = 2.0
"""Seconds by which a wait may be longer than it was asked for: its ticket is written after its request was received,
and granted by a statement that waits for locks of users before it reads the clock. Both take long on a busy machine."""


@dataclass(frozen=True, slots=True)
class Waited:
    """A request that was granted, in seconds of the database's clock since the first one."""

    lease: KeptLease
    call: Call
    arrived: float
    rank: float
    granted: float
    is_orderly: bool
    """Whether its place in the queue is certain: it waited, with one call and without a fault near its replica."""


def waits_in_order(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A request is served before those of a later rank for the same users (docs/waiting.md, The order).

    Compared are tests for one user of a pool with the same labels, by the arrival that the farm kept and the priority.
    One that was overtaken must have waited, under one call, because the place of a request that is posted again does
    not count meanwhile. Those that waited at a replica with a fault from shortly before their call to its end are left
    out, and so are all around a fault of the database: the tickets of a replica that is paused or has no database do
    not count, and times before and after a step of the clock do not compare.
    """
    queues: dict[tuple[object, ...], list[Waited]] = defaultdict(list)
    start = min((lease.acquired_at for lease in kept.leases.values()), default=kept.now)
    for lease_id, call in seen.granted():
        lease = kept.leases.get(lease_id)
        if lease is None or lease.requested_at is None or not _is_for_any_one(call, lease):
            continue
        arrived = (lease.requested_at - start).total_seconds()
        granted = (lease.acquired_at - start).total_seconds()
        has_waited = _is_single(seen, call) and bool(call.body.get("wait_seconds"))
        is_orderly = has_waited and not seen.disturbed(call.replica, call.sent_at - HEARTBEAT, call.ended_at)
        rank = arrived - PRIORITY_STEP * lease.priority
        waited = Waited(lease, call, arrived, rank, granted, is_orderly)
        queues[lease.pool, lease.labels].append(waited)
    for queue in queues.values():
        yield from _overtaken(queue)


def _is_for_any_one(call: Call, lease: KeptLease) -> bool:
    is_named = isinstance(call.body, dict) and (call.body.get("user") or call.body.get("user_id"))
    return (
        call.operation == "acquire_lease"
        and lease.purpose == "test"
        and len(lease.users) == 1
        and not is_named
    )


def _overtaken(queue: list[Waited]) -> Iterator[Violation]:
    """Looks for a higher rank that was granted well after this one arrived, and well before it was granted.

    Of those granted before, `highest` keeps those that no later one has a higher rank than. So the first of them
    after any moment has the highest rank after it.
    """
    in_order = sorted(queue, key=lambda each: each.granted)
    highest: list[Waited] = []
    added = 0
    for waited in in_order:
        while in_order[added].granted < waited.granted - OUT_OF_ORDER:
            while highest and highest[-1].rank <= in_order[added].rank:
                highest.pop()
            highest.append(in_order[added])
            added += 1
        first = bisect_right(highest, waited.arrived + OUT_OF_ORDER, key=lambda each: each.granted)
        if waited.is_orderly and first < len(highest) and highest[first].rank > waited.rank + OUT_OF_ORDER:
            yield _out_of_order(waited, highest[first])


def _out_of_order(waited: Waited, other: Waited) -> Violation:
    return Violation(
        IN_ORDER,
        f"{waited.call.client} (arrived at {waited.lease.requested_at}, priority {waited.lease.priority}) got lease "
        f"{waited.lease.id} {waited.granted - other.granted:.3f} s after {other.call.client} (arrived at "
        f"{other.lease.requested_at}, priority {other.lease.priority}) got lease {other.lease.id}",
        (shown(other.call), shown(waited.call)),
    )


def no_late_grant(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """A wait that is over is never granted (docs/waiting.md, When it is over).

    A request that was posted once waited no longer, by the farm's own account, than it asked for. A key whose last
    call was refused, with all calls before it answered by then, has no lease. Waits during a step of the database's
    clock are left out, because the account is by that clock; those during other faults may be longer by the fault.
    """
    for lease_id, call in seen.granted():
        if call.operation == "acquire_lease" and call.status == 201 and _is_single(seen, call):
            asked = float(call.body.get("wait_seconds") or 0)
            if asked == 0:  # it did not wait, whatever its statement took
                continue
            late = (call.answer.get("waited") or 0) - asked - LATE
            if (
                late > 0
                and late > _disturbance(seen, call)
                and not seen.clock_stepped(call.sent_at, call.ended_at)
            ):
                waited = call.answer["waited"]
                what = f"{call.client} got lease {lease_id} after {waited} s, and asked to wait for {asked}"
                yield Violation(NO_LATE_GRANT, what, (shown(call),))
    yield from _grants_of_refused_keys(seen, kept)


def _grants_of_refused_keys(seen: Seen, kept: Kept) -> Iterator[Violation]:
    unseen = {lease.key: lease for lease in kept.leases.values() if lease.id not in seen.acquires}
    for (_, key), calls in seen.under_key.items():
        last = max(calls, key=lambda call: call.sent_at)
        others = [call for call in calls if call is not last]
        are_over = all(call.status is not None and call.ended_at <= last.sent_at for call in others)
        if key in unseen and are_over and slug_of(last) == "pool-exhausted":
            what = f"key {key} was refused to {last.client}, and has lease {unseen[key].id}"
            yield Violation(NO_LATE_GRANT, what, (shown(last),))


def _is_single(seen: Seen, call: Call) -> bool:
    return call.key is None or len(seen.under_key[call.principal, call.key]) == 1


def _disturbance(seen: Seen, call: Call) -> float:
    """Seconds of faults during the call."""
    during = [
        fault for fault in seen.faults if fault.began_at <= call.ended_at and fault.ended_at >= call.sent_at
    ]
    return sum(HEARTBEAT + fault.ended_at - fault.began_at for fault in during)
