"""Waits in order: nobody is served before a request of a higher rank for the same users."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from chaos.checker.kept import Kept
from chaos.checker.seen import CLOCK_MARGIN, Seen, lease_in
from chaos.checker.spans import Spans
from chaos.checker.violations import Violation, shown, slug_of
from chaos.history import CLOCK_STEP, Call, Fault

IN_ORDER = "waits in order"

PRIORITY_STEP = 60.0
"""Seconds of waiting that a step of priority counts as (docs/waiting.md, The order)."""
OUT_OF_ORDER = 1.0
"""Seconds by which a request may be later and all the same be served first, and by which it may be served sooner.
Across replicas, and while a queue forms, the order holds to some milliseconds only (docs/waiting.md, The order). A run
has all processes of the farm on one machine: one that begins may take a second to write the tickets of its requests."""
LAPSES_AFTER = 3.0
"""Seconds of a fault in which the tickets of a replica go on counting. They stop counting five seconds after its last
heartbeat, which may be one second before the fault, and the next one comes up to a second after it."""
SETTLES_WITHIN = 3.0
"""Seconds after a fault in which a replica may not yet listen again, or still makes a pause after a grant that got no
user."""
RECOVERS_WITHIN = 6.0
"""Seconds after a longer fault in which the tickets of a replica may not count, or count again too late."""
UNSAID = 1.0
"""Seconds after a fault of another replica has begun: users that it had just freed may not be announced yet."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Of users to a test, in seconds of the clients' clock."""

    call: Call
    rank: float
    """At the most: by the moment before its first request was sent."""
    earliest: float
    latest: float
    """Between these moments it was granted."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Of a test for any one user of a pool, in seconds of the clients' clock."""

    call: Call
    rank: float
    """At the least: by the latest moment at which it can have arrived."""
    arrived: float
    """At the latest."""
    over: float
    """At the earliest: granted, or refused at its end."""


def waits_in_order(seen: Seen, _: Kept) -> Iterator[Violation]:
    """A request is served before those of a lower rank for the same users (docs/waiting.md, The order).

    Compared are tests that waited for any one user of a pool, whether they got one or were refused at the end of
    their wait, with all grants of such users to tests during the wait, whatever these tests asked for.
    One that was overtaken must have waited under one call, because the place of a request that is posted again does
    not count meanwhile. A grant is left out while a fault of the database or of the replica of the wait goes on and
    for some seconds after it, and in the second after any other fault began. Waits and grants during a step of the
    clock are left out, because it changes how long a ticket counts, and how long a request has waited.
    """
    steps = Spans((fault.began_at, fault.ended_at) for fault in seen.faults if fault.kind == CLOCK_STEP)
    grants = _grants(seen, steps)
    disturbances = _disturbances(seen)
    for pool, wait in _waits(seen):
        if steps.meet(wait.call.sent_at, wait.call.ended_at):
            continue
        compared = [
            grant
            for grant in _during(wait, grants[pool])
            if not disturbances[wait.call.replica].meet(grant.earliest, grant.latest)
        ]
        seen.compared[IN_ORDER] += bool(compared)
        overtook = next((grant for grant in compared if grant.rank > wait.rank + OUT_OF_ORDER), None)
        if overtook is not None:
            yield _out_of_order(wait, overtook)


def _grants(seen: Seen, steps: Spans) -> dict[str, list[Grant]]:
    """By pool, in the order in which their answers were read."""
    grants: dict[str, list[Grant]] = defaultdict(list)
    for _, call in sorted(seen.granted(), key=lambda granted: granted[1].ended_at):
        asked_at = seen.asked_at(call)
        if _is_of_test(call) and not steps.meet(asked_at, call.ended_at):
            earliest = asked_at + (call.answer.get("waited") or 0)
            grants[_pool_of(call)].append(Grant(call, _rank(asked_at, call), earliest, call.ended_at))
    return grants


def _waits(seen: Seen) -> Iterator[tuple[str, Wait]]:
    """With the pool of each."""
    for call in seen.calls:
        if not (_is_of_test(call) and _is_for_any_one(call) and is_single(seen, call)):
            continue
        if lease_in(call) or slug_of(call) == "pool-exhausted":
            waited = call.answer.get("waited") or 0
            arrived = call.ended_at - waited
            yield _pool_of(call), Wait(call, _rank(arrived, call), arrived, call.sent_at + waited)


def _is_of_test(call: Call) -> bool:
    return call.operation == "acquire_lease" and (call.body or {}).get("purpose", "test") == "test"


def _is_for_any_one(call: Call) -> bool:
    body = call.body or {}
    is_named = body.get("user") or body.get("user_id")
    return bool(body.get("wait_seconds")) and body.get("count", 1) == 1 and not is_named


def is_single(seen: Seen, call: Call) -> bool:
    """Whether its key, if it has one, was posted once."""
    return call.key is None or len(seen.under_key[call.principal, call.key]) == 1


def _pool_of(call: Call) -> str:
    """By the domain that it got a user of, because a request for a user by its login names none."""
    domain = call.answer["domain"] if lease_in(call) else call.body.get("domain", "regular")
    return str([*(call.body.get(name) for name in ("project", "project_id", "env")), domain])


def _rank(arrived: float, call: Call) -> float:
    return arrived - PRIORITY_STEP * (call.body.get("priority") or 0)


def _disturbances(seen: Seen) -> dict[str, Spans]:
    """By replica, when its requests may be overtaken."""
    return {
        replica: Spans((fault.began_at, _settled_at(fault, replica)) for fault in seen.faults)
        for replica in {call.replica for call in seen.calls}
    }


def _settled_at(fault: Fault, replica: str) -> float:
    if fault.origin not in {"", replica}:
        return fault.began_at + UNSAID
    if fault.kind == CLOCK_STEP:  # one replica believes the clock sooner than another
        return fault.ended_at + CLOCK_MARGIN
    is_short = fault.ended_at - fault.began_at <= LAPSES_AFTER
    return fault.ended_at + (SETTLES_WITHIN if is_short else RECOVERS_WITHIN)


def _during(wait: Wait, grants: list[Grant]) -> Iterator[Grant]:
    """Those well after the wait began, and well before it was over."""
    first = bisect_left(grants, wait.arrived + OUT_OF_ORDER, key=lambda grant: grant.latest)
    last = bisect_left(grants, wait.over - OUT_OF_ORDER, key=lambda grant: grant.latest)
    for grant in grants[first:last]:
        if grant.earliest > wait.arrived + OUT_OF_ORDER and _is_of_wanted_user(grant, wait):
            yield grant


def _is_of_wanted_user(grant: Grant, wait: Wait) -> bool:
    """By the labels that the users had when they were granted."""
    wanted = (wait.call.body.get("labels") or {}).items()
    return any(
        all(
            user["labels"].get(name) in (value if isinstance(value, list) else [value])
            for name, value in wanted
        )
        for user in grant.call.answer["users"]
    )


def _out_of_order(wait: Wait, other: Grant) -> Violation:
    got = lease_in(wait.call)
    outcome = f"got lease {got} {wait.over - other.latest:.3f} s after that" if got else "got none"
    return Violation(
        IN_ORDER,
        f"{other.call.client} ({_told(other.call)}) got lease {lease_in(other.call)}, "
        f"and {wait.call.client} ({_told(wait.call)}), who waited, {outcome}",
        (shown(other.call), shown(wait.call)),
    )


def _told(call: Call) -> str:
    return f"asked at {call.sent_at:.3f} s, priority {call.body.get('priority') or 0}"
