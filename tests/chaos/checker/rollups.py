"""Rollups say what leases say."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chaos.checker.kept import Kept, KeptLease
from chaos.checker.seen import Seen
from chaos.checker.violations import Violation

ROLLUPS_TRUE = "rollups true"

_HOUR = timedelta(hours=1)
SETTLED = timedelta(seconds=10)
"""A lease that was written while rollups were computed is in the next ones."""


@dataclass(slots=True)
class _Usage:
    """Of a pool within an hour."""

    granted: int = 0
    busy_seconds: float = 0
    ends: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def rollups_true(seen: Seen, kept: Kept) -> Iterator[Violation]:
    """Rollups count each grant, busy second and end of a test once (decision 0050; docs/invariants.md).

    Of the hours whose leases had all ended when the rollups were last computed. Not if the database's clock was
    stepped, because leases of a time that is run through twice may be counted in no hour for a while.
    """
    if kept.rolled_up_until is None or seen.clock_stepped(float("-inf"), float("inf")):
        return
    usage, unsettled = _usage(kept, kept.rolled_up_until - SETTLED)
    rows = {(row["hour"], str(row["project_id"]), row["env"], row["domain"]): row for row in kept.rollups}
    for place in usage.keys() | {
        place for place, row in rows.items() if row["granted"] or row["busy_seconds"]
    }:
        expected, row = usage.get(place, _Usage()), rows.get(place)
        hour, pool = place[0], "/".join(place[1:])
        if hour in unsettled:
            continue
        seen.compared[ROLLUPS_TRUE] += 1
        if row is None:
            yield Violation(ROLLUPS_TRUE, f"the hour {hour} of pool {pool} has leases and no rollup")
            continue
        rolled = (row["granted"], round(row["busy_seconds"], 1), json.loads(row["ends"]))
        wanted = (expected.granted, round(expected.busy_seconds, 1), dict(expected.ends))
        is_busy = abs(row["busy_seconds"] - expected.busy_seconds) <= 0.01
        if not is_busy or (rolled[0], rolled[2]) != (wanted[0], wanted[2]):
            what = (
                f"the hour {hour} of pool {pool} has another rollup than leases (granted, busy seconds, ends)"
            )
            yield Violation(ROLLUPS_TRUE, what, (f"rollup: {rolled}", f"leases: {wanted}"))


def _usage(kept: Kept, until: datetime) -> tuple[dict[tuple[datetime, str, str, str], _Usage], set[datetime]]:
    """What the leases say, and the hours that are not over for them."""
    usage: dict[tuple[datetime, str, str, str], _Usage] = defaultdict(_Usage)
    unsettled: set[datetime] = set()
    for lease in kept.leases.values():
        if lease.purpose != "test":
            continue
        began, ended = lease.acquired_at, lease.end
        usage[_hour(began), *lease.pool].granted += 1
        for end, users in _ends(lease, kept).items():
            if users:
                usage[_hour(ended), *lease.pool].ends[end] += users
        hour = _hour(began)
        while hour < ended:
            if ended > until:
                unsettled.add(hour)
            busy = max(timedelta(0), min(ended, hour + _HOUR) - max(began, hour))
            usage[hour, *lease.pool].busy_seconds += len(lease.users) * busy.total_seconds()
            hour += _HOUR
        if ended > until:
            unsettled |= {_hour(began), _hour(ended)}
    return usage, unsettled


def _ends(lease: KeptLease, kept: Kept) -> dict[str, int]:
    """Users by how the lease ended for them: what was said of one user is instead of what was said of all."""
    if lease.ended_by != "released":
        return {lease.ended_by or "expired": len(lease.users)}
    ends: dict[str, int] = defaultdict(int)
    ends[_said(lease.outcome or "unused", lease.reason)] = len(lease.users)
    for said in kept.said.get(lease.fence, ()):
        ends[_said(lease.outcome or "unused", lease.reason)] -= 1
        ends[_said(said["outcome"], said["reason"])] += 1
    return ends


def _said(outcome: str, reason: str | None) -> str:
    return f"{outcome}:{reason}" if reason else outcome


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
