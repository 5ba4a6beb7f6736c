"""The rules of a farm, for one project and in memory: acquire, wait, renew, release."""

import itertools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botfarm_client.shared import clock
from botfarm_client.testing.fake_users import FakeLease, FakeProblem, FakeUser

# Real seconds between two checks of a waiting request, so that a test that moves the time need not wake it.
LOOK = 0.01
AGEING = 60.0


@dataclass(frozen=True, kw_only=True)
class FakePolicy:
    """The times of a project, in seconds."""

    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0


class FakeLeasing:
    def __init__(self, users: list[FakeUser], policy: FakePolicy, *, max_leases: int | None) -> None:
        self._policy = policy
        self._max_leases = max_leases
        self._fences = itertools.count(1)
        self._lock = threading.RLock()
        self._line: dict[object, tuple[float, Callable[[], bool]]] = {}
        """The rank of each waiting request, and whether its caller has hung up."""
        self._arrivals: dict[str, float] = {}
        """The rank of each idempotency key that has waited: a repeated request keeps its place."""
        self.users = users
        self.leases: list[FakeLease] = []

    @property
    def waiting(self) -> int:
        return sum(not is_gone() for _, is_gone in self._line.values())

    def acquire(
        self, wanted: Mapping[str, Any], key: str | None, is_gone: Callable[[], bool]
    ) -> tuple[FakeLease, bool]:
        """The lease, and whether it is a replay of one under the same key."""
        started, me = clock.now(), object()
        rank = started - AGEING * wanted["priority"]
        if key is not None:
            rank = self._arrivals.setdefault(key, rank)
        try:
            while True:
                with self._lock:
                    self._close_what_expired()
                    found = None if is_gone() else self._found(wanted, key, rank)
                    if found:
                        return found
                    if is_gone() or clock.now() - started >= wanted["wait_seconds"]:
                        self._line.pop(me, None)
                        raise self._exhausted(wanted, waited=clock.now() - started)
                    self._line[me] = rank, is_gone
                _sleep()
        finally:
            with self._lock:
                self._line.pop(me, None)

    def renew(self, lease_id: str, ttl: int | None) -> FakeLease:
        with self._lock:
            lease = self.live(lease_id)
            left = math.ceil(lease.hold_until - clock.now())
            lease.ttl = max(1, min(ttl or lease.ttl, self._policy.max_ttl, left))
            lease.expires_at = max(lease.expires_at, min(clock.now() + lease.ttl, lease.hold_until))
            return lease

    def release(self, lease_id: str, body: Mapping[str, Any]) -> FakeLease:
        with self._lock:
            lease = self.found(lease_id)
            if lease.ended_by == "released":
                return lease
            self.live(lease_id)
            lease.verdicts = _verdicts(lease, body)
            self._end(lease, "released", rest=self._policy.cooldown)
            lease.outcome, lease.reason, lease.note = (
                body.get("outcome", "ok"),
                body.get("reason"),
                body.get("note"),
            )
            return lease

    def force(self, lease_id: str, reason: str | None = None) -> FakeLease:
        with self._lock:
            lease = self.found(lease_id)
            if lease.is_live:
                self._end(lease, "forced", rest=self._policy.lock_delay)
                lease.note = reason
            return lease

    def expire(self, lease_id: str) -> None:
        with self._lock:
            self.found(lease_id).expires_at = clock.now()
            self._close_what_expired()

    def found(self, lease_id: str) -> FakeLease:
        with self._lock:
            self._close_what_expired()
            for lease in self.leases:
                if lease.id == lease_id:
                    return lease
        raise FakeProblem("no-such-lease")

    def live(self, lease_id: str) -> FakeLease:
        lease = self.found(lease_id)
        if not lease.is_live:
            raise FakeProblem("lease-lapsed")
        return lease

    def user_of(self, lease_id: str, user_id: str) -> FakeUser:
        for user in self.live(lease_id).users:
            if user.id == user_id:
                return user
        raise FakeProblem("no-such-user")

    def _found(
        self, wanted: Mapping[str, Any], key: str | None, rank: float
    ) -> tuple[FakeLease, bool] | None:
        return self._replayed(wanted, key) or self._taken(wanted, key, rank)

    def _replayed(self, wanted: Mapping[str, Any], key: str | None) -> tuple[FakeLease, bool] | None:
        lease = next((each for each in self.leases if key is not None and each.key == key), None)
        if lease is None:
            return None
        if lease.asked_for != _what(wanted):
            raise FakeProblem("idempotency-key-reused")
        if not lease.is_live:
            raise FakeProblem("idempotency-key-ended")
        return lease, True

    def _taken(
        self, wanted: Mapping[str, Any], key: str | None, rank: float
    ) -> tuple[FakeLease, bool] | None:
        count, matching = wanted["count"], self._matching(wanted)
        if not matching:
            raise FakeProblem("no-such-pool")
        if len(matching) < count:
            raise FakeProblem("pool-too-small", total=len(matching))
        held = sum(len(lease.users) for lease in self.leases if lease.is_live)
        if self._max_leases is not None and held + count > self._max_leases:
            raise FakeProblem("quota-exceeded", held=held, count=count, max_leases=self._max_leases)
        free = [user for user in matching if _is_free(user)]
        if len(free) < count or self._has_others_before(rank):
            return None
        waited = max(0.0, clock.now() - rank - AGEING * wanted["priority"])
        return self._handed_out(wanted, key, free[:count], waited=waited), False

    def _has_others_before(self, rank: float) -> bool:
        return any(other < rank and not is_gone() for other, is_gone in self._line.values())

    def _handed_out(
        self, wanted: Mapping[str, Any], key: str | None, users: list[FakeUser], *, waited: float
    ) -> FakeLease:
        now, policy = clock.now(), self._policy
        ttl = min(wanted["ttl_seconds"] or policy.default_ttl, policy.max_ttl, policy.max_hold)
        lease = FakeLease(
            users,
            wanted["env"],
            wanted["domain"],
            wanted["owner"],
            wanted["metadata"],
            fence=next(self._fences),
            acquired_at=now,
            ttl=ttl,
            expires_at=now + ttl,
            hold_until=now + policy.max_hold,
            key=key,
            asked_for=_what(wanted),
            waited=waited,
            labels=wanted["labels"],
        )
        self.leases.append(lease)
        for user in users:
            user.lease = lease
            self.users.remove(user)  # moved to the end: all others come before it again
            self.users.append(user)
        return lease

    def _matching(self, wanted: Mapping[str, Any]) -> list[FakeUser]:
        return [
            user
            for user in self.users
            if (user.env, user.domain) == (wanted["env"], wanted["domain"])
            and wanted["labels"].items() <= user.labels.items()
        ]

    def _exhausted(self, wanted: Mapping[str, Any], *, waited: float) -> FakeProblem:
        matching = self._matching(wanted)
        leased = [user.lease for user in matching if user.lease and user.lease.is_live]
        resting = [user.available_at for user in matching if not _is_leased(user) and not _is_free(user)]
        due = [lease.expires_at + self._policy.lock_delay for lease in leased] + resting
        next_free_in = max(0.0, min(due) - clock.now()) if due else 0.0
        return FakeProblem(
            "pool-exhausted",
            retry_after=max(1, min(60, math.ceil(next_free_in))),
            waited=round(waited, 3),
            total=len(matching),
            leased=len(leased),
            resting=len(resting),
            dirty=0,
            quarantined=0,
            waiting=self.waiting,
            next_free_in=round(next_free_in, 3),
        )

    def _close_what_expired(self) -> None:
        for lease in self.leases:
            if lease.is_live and lease.expires_at <= clock.now():
                self._end(lease, "expired", rest=self._policy.lock_delay)

    def _end(self, lease: FakeLease, ended_by: Any, *, rest: float) -> None:
        lease.ended_by = ended_by
        lease.ended_at = min(lease.expires_at, clock.now())
        for user in lease.users:
            user.available_at = lease.ended_at + rest


def _what(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the body that a retry under the same key must repeat."""
    return {name: value for name, value in wanted.items() if name not in {"wait_seconds", "priority"}}


def _verdicts(lease: FakeLease, body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the release says of each user of the lease: of it alone, or of all."""
    of_all = {"outcome": "ok", **{name: value for name, value in body.items() if name != "users"}}
    alone = {user["id"]: {"outcome": "ok", **user} for user in body.get("users", [])}
    strangers = [
        place for place, user_id in enumerate(alone) if user_id not in {user.id for user in lease.users}
    ]
    if strangers:
        errors = [
            {"field": f"users.{place}.id", "code": "unknown", "message": "is no user of the lease"}
            for place in strangers
        ]
        raise FakeProblem("invalid-request", errors=errors)
    said = {user.id: alone.get(user.id, of_all) for user in lease.users}
    return {
        user_id: {name: verdict[name] for name in ("outcome", "reason", "note") if verdict.get(name)}
        for user_id, verdict in said.items()
    }


def _is_leased(user: FakeUser) -> bool:
    return user.lease is not None and user.lease.is_live


def _is_free(user: FakeUser) -> bool:
    return not _is_leased(user) and user.available_at <= clock.now()


def _sleep() -> None:
    threading.Event().wait(LOOK)
