"""Makes the requests of a replay of what was recorded: leases, their chores, and requests that got no user."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from uuid import UUID

from botfarm.db.usage.demand_queries import EqualUsers, RecordedLease, RefusedKind
from botfarm.domain.leases import EndedBy, Purpose
from botfarm.domain.projects import ProjectPolicy
from botfarm.domain.wanted_labels import have
from botfarm.services.usage.replay import Request, Users


@dataclass(frozen=True, slots=True)
class Demand:
    requests: Sequence[Request]
    """In the order of their arrival."""
    users: Users
    tests: int
    """Requests of tests."""
    imputed: int
    """Requests without a lease, which hold their users for the median of the others."""
    unmatched: int
    """Requests of tests for labels that no user in service has: they are left out."""
    median_hold: float | None
    """Seconds; null when no test has had a lease."""
    peak: int
    """The most users that were wanted at once, if each request had got its users when it came."""


def demand_of(
    leases: Iterable[RecordedLease],
    refused: Iterable[RefusedKind],
    users: Iterable[EqualUsers],
    policy: ProjectPolicy,
    *,
    since: float,
) -> Demand:
    """The demand since a time, in seconds of the epoch. `leases` are the newest first."""
    labels = _LabelSets()
    granted = [request for request in _granted(leases, policy, labels) if request.arrival >= since]
    holds = [request.hold for request in granted if request.is_test]
    median_hold = median(holds) if holds else None
    imputed = list[Request]()
    if median_hold is not None:
        late = (kind for kind in refused if kind.minute - kind.waited >= since)
        imputed = _imputed(late, median_hold, policy, labels)
    matching = labels.matched_by(users)
    known = frozenset().union(*matching)
    asked = [*reversed(granted), *imputed]
    met = sorted((request for request in asked if request.wanted in known), key=_arrival)
    tests = sum(request.is_test for request in met)
    return Demand(
        requests=met,
        users=matching,
        tests=tests,
        imputed=sum(request.wanted in known for request in imputed),
        unmatched=sum(request.is_test for request in asked) - tests,
        median_hold=median_hold,
        peak=_peak_of(met),
    )


def _arrival(request: Request) -> float:
    return request.arrival


def _peak_of(requests: Sequence[Request]) -> int:
    """With the rests after leases, because users that rest are nobody's. At one moment ends come before requests."""
    changes = [(request.arrival, request.count) for request in requests]
    changes += [(request.arrival + request.out, -request.count) for request in requests]
    return max(accumulate(change for _, change in sorted(changes)), default=0)


class _LabelSets:
    """Numbers for the sets of labels that requests ask for."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number_of(self, labels: str) -> int:
        return self._numbers.setdefault(labels, len(self._numbers))

    def matched_by(self, users: Iterable[EqualUsers]) -> Users:
        """Counts the users by the sets that they match. Without users, as if one had all labels."""
        wanted = [(number, json.loads(labels)) for labels, number in self._numbers.items()]
        matching: dict[frozenset[int], int] = {}
        for equal in users:
            theirs = json.loads(equal.labels)
            matches = frozenset(number for number, labels in wanted if have(theirs, labels))
            matching[matches] = matching.get(matches, 0) + equal.users
        return matching or {frozenset(self._numbers.values()): 1}


def _granted(leases: Iterable[RecordedLease], policy: ProjectPolicy, labels: _LabelSets) -> list[Request]:
    """A request for each lease, except for chores that clean a user: they lengthen the rest after its test."""
    requests = list[Request]()
    cleaned_at: dict[UUID, float] = {}  # when the cleaning was over that came after the lease
    for lease in leases:
        if lease.is_cleaning:
            cleaned_at.setdefault(lease.user_ids[0], lease.ended_at)
            continue
        free_at = max(
            lease.ended_at + _rest(lease, policy),
            lease.acquired_at + policy.login_gap,
            *(cleaned_at.pop(user_id, 0.0) for user_id in lease.user_ids),
        )
        hold = max(0.0, lease.ended_at - lease.acquired_at)
        request = Request(
            lease.requested_at,
            hold,
            max(hold, free_at - lease.acquired_at),
            labels.number_of(lease.labels),
            len(lease.user_ids),
            lease.priority,
            lease.purpose == Purpose.TEST,
        )
        requests.append(request)
    return requests


def _rest(lease: RecordedLease, policy: ProjectPolicy) -> float:
    return policy.cooldown if lease.ended_by == EndedBy.RELEASED else policy.lock_delay


def _imputed(
    refused: Iterable[RefusedKind], hold: float, policy: ProjectPolicy, labels: _LabelSets
) -> list[Request]:
    """The requests of a minute come together at its start, because the minute is all that was recorded."""
    requests = list[Request]()
    for kind in refused:
        out = max(hold + policy.cooldown, policy.login_gap)
        request = Request(
            kind.minute - kind.waited, hold, out, labels.number_of(kind.labels), kind.users, kind.priority
        )
        requests += [request] * kind.requests
    return requests
