"""Leases of a fake farm: acquire, wait, renew, release."""

import itertools
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

from botfarm_client.shared import clock
from botfarm_client.testing.fake_state import due, free_at, has_labels, is_free, state, waits_for_keeper
from botfarm_client.testing.fake_stock import FakeStock
from botfarm_client.testing.fake_users import FakeLease, FakeProblem, FakeUser, FakeWaiter, invalid

# Real seconds between two checks of a waiting request, so that a test that moves the time need not wake it.
LOOK = 0.01
AGEING = 60.0

Wanted = Mapping[str, Any]


class FakeLeasing:
    def __init__(self, stock: FakeStock, *, max_leases: int | None) -> None:
        self._stock = stock
        self._policy = stock.policy
        self._max_leases = max_leases
        self._fences = itertools.count(1)
        self._lock = stock.lock
        self._line: list[FakeWaiter] = []
        self._arrivals: dict[str, float] = {}
        """The rank of each idempotency key that has waited: a repeated request keeps its place."""

    @property
    def waiting(self) -> int:
        return sum(not each.is_gone() for each in self._line)

    def acquire(self, wanted: Wanted, key: str | None, is_gone: Callable[[], bool]) -> tuple[FakeLease, bool]:
        """The lease, and whether it is a replay of one under the same key."""
        started = clock.now()
        me = FakeWaiter(
            wanted["purpose"], started - AGEING * wanted["priority"], is_gone, _folded(wanted["user"])
        )
        if key is not None:
            me.rank = self._arrivals.setdefault(key, me.rank)
        try:
            while True:
                with self._lock:
                    self._stock.settle()
                    if not is_gone() and (found := self._found(wanted, key, me)):
                        return found
                    if is_gone() or clock.now() - started >= wanted["wait_seconds"]:
                        self._leave_line(me)
                        raise self._exhausted(wanted, waited=clock.now() - started)
                    if me not in self._line:
                        self._line.append(me)
                threading.Event().wait(LOOK)
        finally:
            with self._lock:
                self._leave_line(me)

    def renew(self, lease_id: str, ttl: int | None) -> FakeLease:
        with self._lock:
            lease = self._stock.live_lease(lease_id)
            most = self._policy.max_hold if lease.purpose == "hold" else self._policy.max_ttl
            left = math.ceil(lease.hold_until - clock.now())
            lease.ttl = max(1, min(ttl or lease.ttl, most, left))
            lease.expires_at = max(lease.expires_at, min(clock.now() + lease.ttl, lease.hold_until))
            self._set_rest(lease)
            return lease

    def release(self, lease_id: str, body: Mapping[str, Any]) -> FakeLease:
        with self._lock:
            lease = self._stock.lease(lease_id)
            if lease.ended_by == "released":
                return lease
            self._stock.live_lease(lease_id)
            verdicts = _verdicts(lease, body)
            self._stock.end(lease, "released", rest=self._policy.cooldown, verdicts=verdicts)
            lease.outcome, lease.reason = body.get("outcome", "ok"), body.get("reason")
            lease.note = body.get("note") or lease.note
            return lease

    def force(self, lease_id: str, reason: str | None = None) -> FakeLease:
        with self._lock:
            lease = self._stock.lease(lease_id)
            if lease.is_live:
                self._stock.end(lease, "forced", rest=self._policy.lock_delay)
                lease.note = reason or lease.note
            return lease

    def expire(self, lease_id: str) -> None:
        with self._lock:
            self._stock.lease(lease_id).expires_at = clock.now()
            self._stock.settle()

    def _leave_line(self, me: FakeWaiter) -> None:
        if me in self._line:
            self._line.remove(me)

    def _found(self, wanted: Wanted, key: str | None, me: FakeWaiter) -> tuple[FakeLease, bool] | None:
        if replayed := self._replayed(wanted, key):
            return replayed, True
        users = [self._held(wanted)] if wanted["user_id"] else self._taken(wanted, me)
        if not users:
            return None
        waited = max(0.0, clock.now() - me.rank - AGEING * wanted["priority"])
        return self._handed_out(wanted, key, users, waited=waited), False

    def _replayed(self, wanted: Wanted, key: str | None) -> FakeLease | None:
        lease = next((each for each in self._stock.leases if key is not None and each.key == key), None)
        if lease is None:
            return None
        if lease.asked_for != _what(wanted):
            raise FakeProblem("idempotency-key-reused")
        if not lease.is_live:
            raise FakeProblem("idempotency-key-ended")
        return lease

    def _held(self, wanted: Wanted) -> FakeUser:
        """The user that a person wants to hold: any that is not leased, retired or resting."""
        user = self._stock.user(wanted["user_id"])
        self._check_quota(1)
        if user.status == "retired":
            raise FakeProblem("user-retired")
        if user.live_lease or (user.status == "active" and user.is_resting):
            until = user.live_lease.expires_at if user.live_lease else user.available_at
            raise FakeProblem("user-busy", expires_in=round(until - clock.now(), 3))
        return user

    def _taken(self, wanted: Wanted, me: FakeWaiter) -> list[FakeUser]:
        """Users of the pool; none when there are too few, or when others come first."""
        count, matching = wanted["count"], self._matching(wanted)
        if wanted["user"] is not None:
            self._check_user(wanted)
        if not matching:
            raise FakeProblem("no-such-pool")
        if len(matching) < count:
            raise FakeProblem("pool-too-small", total=len(matching))
        self._check_quota(count)
        earlier = [each for each in self._waiting_for(wanted["purpose"]) if each.rank < me.rank]
        if any(each.user is None or each.user == me.user for each in earlier):
            return []
        kept = {each.user for each in earlier}
        fit = [
            user
            for user in matching
            if self._fits(user, wanted["purpose"]) and _folded(user.login) not in kept
        ]
        return fit[:count] if len(fit) >= count else []

    def _fits(self, user: FakeUser, purpose: str) -> bool:
        if purpose == "chore":
            return waits_for_keeper(user, self._policy, tests_wait=bool(self._waiting_for("test")))
        return is_free(user)

    def _waiting_for(self, purpose: str) -> list[FakeWaiter]:
        return [each for each in self._line if each.purpose == purpose and not each.is_gone()]

    def _check_quota(self, count: int) -> None:
        held = sum(len(lease.users) for lease in self._stock.leases if lease.is_live)
        if self._max_leases is not None and held + count > self._max_leases:
            raise FakeProblem("quota-exceeded", held=held, count=count, max_leases=self._max_leases)

    def _handed_out(
        self, wanted: Wanted, key: str | None, users: list[FakeUser], *, waited: float
    ) -> FakeLease:
        now, policy, purpose = clock.now(), self._policy, wanted["purpose"]
        most = (policy.max_hold,) if purpose == "hold" else (policy.max_ttl, policy.max_hold)
        ttl = min(
            wanted["ttl_seconds"] or (policy.max_hold if purpose == "hold" else policy.default_ttl), *most
        )
        lease = FakeLease(
            users,
            users[0].env,
            users[0].domain,
            wanted["owner"],
            wanted["metadata"],
            fence=next(self._fences),
            acquired_at=now,
            ttl=ttl,
            expires_at=now + ttl,
            hold_until=now + policy.max_hold,
            purpose=purpose,
            key=key,
            asked_for=_what(wanted),
            due={user.id: due(user, policy) for user in users} if purpose == "chore" else {},
            note=wanted["note"],
            waited=waited,
            labels=wanted["labels"],
        )
        self._stock.leases.append(lease)
        self._set_rest(lease)
        for user in users:
            user.lease = lease
            self._stock.users.remove(user)  # moved to the end: all others come before it again
            self._stock.users.append(user)
        return lease

    def _set_rest(self, lease: FakeLease) -> None:
        """When its users come back if the holder is not heard of again."""
        for user in lease.users:
            user.available_at = max(
                lease.expires_at + self._policy.lock_delay, lease.acquired_at + self._policy.login_gap
            )

    def _check_user(self, wanted: Wanted) -> None:
        """Raises FakeProblem for a user that no test will get before the wait is over."""
        user = self._one(wanted)
        if user is None:
            raise FakeProblem("no-such-user")
        current, moment = state(user), free_at(user, self._policy)
        is_cleaned_soon = current == "dirty" and wanted["wait_seconds"] > 0
        is_free_soon = moment is not None and moment - clock.now() <= wanted["wait_seconds"]
        if current in {"dirty", "quarantined", "retired"} and not is_cleaned_soon and not is_free_soon:
            if current == "quarantined":
                raise FakeProblem("user-quarantined", status_reason=user.status_reason)
            raise FakeProblem(f"user-{current}")

    def _one(self, wanted: Wanted) -> FakeUser | None:
        users = (user for user in self._stock.users if user.env == wanted["env"])
        return next((user for user in users if _folded(user.login) == _folded(wanted["user"])), None)

    def _matching(self, wanted: Wanted) -> list[FakeUser]:
        if wanted["user"] is not None:
            one = self._one(wanted)
            return [one] if one and one.status != "retired" else []
        return [
            user
            for user in self._stock.users
            if (user.env, user.domain) == (wanted["env"], wanted["domain"])
            and has_labels(user, wanted["labels"])
            and user.status != "retired"
        ]

    def _exhausted(self, wanted: Wanted, *, waited: float) -> FakeProblem:
        matching = self._matching(wanted)
        states = [state(user) for user in matching]
        moments = (free_at(user, self._policy) for user in matching)
        due_in = [moment - clock.now() for moment in moments if moment is not None and moment > clock.now()]
        next_free_in = min(due_in, default=None) if wanted["purpose"] != "chore" else None
        return FakeProblem(
            "pool-exhausted",
            retry_after=60 if next_free_in is None else max(1, min(60, math.ceil(next_free_in))),
            waited=round(waited, 3),
            total=len(matching),
            **{each: states.count(each) for each in ("leased", "resting", "dirty", "quarantined")},
            waiting=len(self._waiting_for("test")),
            next_free_in=None if next_free_in is None else round(next_free_in, 3),
        )


def _folded(login: str | None) -> str | None:
    return login and login.casefold()


def _what(wanted: Wanted) -> dict[str, Any]:
    """The part of the body that a retry under the same key must repeat."""
    return {name: value for name, value in wanted.items() if name not in {"wait_seconds", "priority"}}


def _verdicts(lease: FakeLease, body: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the release says of each user of the lease: of it alone, or of all."""
    of_all = {"outcome": "ok", **{name: value for name, value in body.items() if name != "users"}}
    alone = {user["id"]: {"outcome": "ok", **user} for user in body.get("users", [])}
    for place, user_id in enumerate(alone):
        if user_id not in {user.id for user in lease.users}:
            raise invalid(f"users.{place}.id", "is no user of the lease", "unknown")
    said = {user.id: alone.get(user.id, of_all) for user in lease.users}
    return {
        user_id: {name: verdict[name] for name in ("outcome", "reason", "note") if verdict.get(name)}
        for user_id, verdict in said.items()
    }
