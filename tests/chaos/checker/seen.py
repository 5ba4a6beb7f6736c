"""The history by leases: which calls were answered with a lease, renewed it, and ended it."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from chaos.checker.spans import Spans
from chaos.history import CLOCK_STEP, Call, History

CLOCK_MARGIN = 10.0
"""Seconds around a step in which processes notice it: each reads the clock every three seconds."""

_LEASE = re.compile(r"/leases/([0-9a-f-]{36})")
_LEASE_ACTION = re.compile(r"/leases/([0-9a-f-]{36})/(renew|release|force[_-]release)(?:\?|$)")
_LOCK_ACTION = re.compile(r"/users/([0-9a-f-]{36})/release_lock(?:\?|$)")
ACQUIRES = frozenset({"acquire_lease", "acquire_lock"})
_PLACE = ("project", "project_id", "env", "domain", "user", "user_id")


class Seen:
    """Calls in dicts are in the order of the history, which is that of their ends or about so."""

    def __init__(self, history: History) -> None:
        self.calls = history.calls
        self.faults = history.faults
        self.compared: Counter[str] = Counter()
        """By rule: what it has compared, without what it leaves out. A rule that compared nothing proves nothing."""
        self.acquires: dict[str, list[Call]] = defaultdict(list)
        """By lease: what was answered with it, as a new lease or once more under its key."""
        self.renewals: dict[str, list[Call]] = defaultdict(list)
        """By lease: renewals that were answered with it."""
        self.releases: dict[str, list[Call]] = defaultdict(list)
        """By lease: all that were sent, answered or not."""
        self.forced: dict[str, list[Call]] = defaultdict(list)
        """By lease: all that were sent, answered or not."""
        self.lock_releases: dict[str, list[Call]] = defaultdict(list)
        """By user: those that name no lease."""
        self.under_key: dict[tuple[str, str], list[Call]] = defaultdict(list)
        """By principal and key: acquires, answered or not."""
        for call in history.calls:
            self._sort_in(call)
        steps = [fault for fault in history.faults if fault.kind == CLOCK_STEP]
        self._disturbances = {
            origin: Spans(
                (each.began_at, each.ended_at) for each in self.faults if each.origin in {origin, ""}
            )
            for origin in {"", *(fault.origin for fault in self.faults)}
        }
        self._steps = Spans((step.began_at - CLOCK_MARGIN, step.ended_at + CLOCK_MARGIN) for step in steps)

    def _sort_in(self, call: Call) -> None:
        if call.operation in ACQUIRES:
            if call.key is not None:
                self.under_key[call.principal, call.key].append(call)
            if (lease_id := lease_in(call)) is not None:
                self.acquires[lease_id].append(call)
        elif call.method == "POST" and (found := _LEASE_ACTION.search(call.path)):
            lease_id, action = found.groups()
            if action == "release":
                self.releases[lease_id].append(call)
            elif action != "renew":
                self.forced[lease_id].append(call)
            elif lease_in(call) == lease_id:
                self.renewals[lease_id].append(call)
        elif call.method == "POST" and (found := _LOCK_ACTION.search(call.path)):
            named = call.body.get("lease_id") if isinstance(call.body, dict) else None
            if named is None:
                self.lock_releases[found[1]].append(call)
            else:
                self.releases[named].append(call)

    def clock_stepped(self, since: float, until: float) -> bool:
        """Whether the clock of the database was stepped between these moments, or shortly before or after."""
        return self._steps.meet(since, until)

    def disturbed(self, origin: str, since: float, until: float) -> bool:
        """Whether between these moments there was a fault of this replica, of the database or of all processes."""
        return self._disturbances.get(origin, self._disturbances[""]).meet(since, until)

    def granted(self) -> Iterator[tuple[str, Call]]:
        """Each lease with the first of the calls that were answered with it."""
        for lease_id, calls in self.acquires.items():
            yield lease_id, min(calls, key=lambda call: call.ended_at)

    def asked_at(self, call: Call) -> float:
        """The earliest moment at which the farm can have granted what this call was answered with."""
        if call.key is None:
            return call.sent_at
        return min(each.sent_at for each in self.under_key[call.principal, call.key])


def lease_in(call: Call) -> str | None:
    """The id of the lease that the call was answered with."""
    if call.status in {200, 201} and isinstance(call.answer, dict) and "fence" in call.answer:
        return str(call.answer["id"])
    return None


def users_of(call: Call) -> list[str]:
    """The ids of the users of the lease that the call was answered with."""
    return [str(user["id"]) for user in call.answer["users"]]


def lease_named(call: Call) -> str | None:
    """The id of the lease that the path names."""
    found = _LEASE.search(call.path)
    return found and found[1]


def user_in(call: Call) -> str:
    """The id of the user that the path names."""
    return call.path.split("/users/")[1][:36]


def may_have_happened(call: Call) -> bool:
    """Whether the farm did what was asked, or may have: also when no answer came or a server error."""
    return call.status is None or call.status < 400 or call.status >= 500


def asked_for(call: Call) -> tuple[object, ...]:
    """What a retry must ask for once more. The TTL, the wait and the owner may change."""
    body = call.body or {}
    asked = tuple(body.get(name) for name in _PLACE)
    return (
        call.operation,
        call.path,
        *asked,
        body.get("labels") or {},
        body.get("count", 1),
        body.get("purpose"),
    )
