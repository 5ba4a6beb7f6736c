"""Tells what clients of a farm saw and what the farm kept, step by step, for the tests of the checker.

Seconds of the story are those of the clients' clock, and of the database's clock since `START`.
"""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from chaos.checker import Kept
from chaos.checker.kept import KeptLease
from chaos.history import CANARY, Call, Fault, History

START = datetime(2026, 1, 5, 8, tzinfo=UTC)
PROJECT = str(UUID(int=1))
POOL = (PROJECT, "stage", "regular")
PASSWORD = f"a-{CANARY}-password"
LOST = "hung up after 0.01 s"
"""The error of a client that does not learn its answer, because it hung up too early."""


def user_id(number: int) -> str:
    return str(UUID(int=1000 + number))


@dataclass
class Story:
    history: History = field(default_factory=History)
    kept: Kept = field(default_factory=lambda: Kept(now=START))
    took: float = 0.01
    """Seconds from a request to its answer, unless told."""
    fence: int = 0

    def call(
        self,
        client: str,
        operation: str,
        method: str,
        path: str,
        at: float,
        *,
        took: float | None = None,
        **seen: Any,
    ) -> Call:
        call = Call(
            client=client,
            operation=operation,
            method=method,
            path=path,
            replica="http://replica-1",
            sent_at=at,
            ended_at=at + (self.took if took is None else took),
            principal=seen.pop("principal", "runners"),
            **{"content_type": "application/json", **seen},
        )
        self.history.calls.append(call)
        return call

    def fault(
        self, kind: str, began: float, ended: float | None = None, *, origin: str = "", **more: Any
    ) -> None:
        """`more` is its `note`, or by how much the clock is `stepped`."""
        ended = began if ended is None else ended
        self.history.faults.append(Fault(kind, "somewhere", began, ended, origin=origin, **more))

    def grant(
        self,
        *users: int,
        at: float,
        ttl: int = 60,
        principal: str = "runners",
        operation: str = "acquire_lease",
        **columns: Any,
    ) -> KeptLease:
        """A lease that the farm keeps, whether or not anybody is answered with it."""
        self.fence += 1
        moment = START + timedelta(seconds=at)
        lease = KeptLease(
            id=str(UUID(int=10_000 + self.fence)),
            fence=self.fence,
            principal=principal,
            operation=operation,
            purpose=columns.pop("purpose", "test"),
            pool=POOL,
            users=tuple(map(user_id, users)),
            acquired_at=moment,
            expires_at=moment + timedelta(seconds=ttl),
            **{"requested_at": moment, "waited": 0.0, **columns},
        )
        self.kept.leases[lease.id] = lease
        for user in lease.users:
            self.user(user)
        return lease

    def user(self, user: str, **columns: Any) -> None:
        """A user, free unless told."""
        known = self.kept.users.get(user) or {
            "id": UUID(user),
            "login": f"{user[-4:]}@shop.test",
            "project_id": UUID(PROJECT),
            "status": "active",
            "status_by": None,
            "labels": "{}",
            "managed_by": None,
            "available_at": START,
            "pending_password": None,
        }
        self.kept.users[user] = {**known, **columns}

    def acquire(
        self,
        client: str,
        *users: int,
        at: float,
        ttl: int = 60,
        took: float | None = None,
        answered: bool = True,
        granted_at: float | None = None,
        wait: float = 0,
        key: str | None = None,
        password: str = PASSWORD,
        **columns: Any,
    ) -> KeptLease:
        """An acquire that is granted in the middle of its call unless told, and whose answer comes or is lost."""
        took = self.took if took is None else took
        granted_at = at + took / 2 if granted_at is None else granted_at
        columns = {
            "requested_at": START + timedelta(seconds=at),
            "waited": granted_at - at,
            **columns,
        }
        lease = self.grant(*users, at=granted_at, ttl=ttl, key=key, **columns)
        self.answer(
            client,
            lease,
            at=at,
            took=took,
            answered=answered,
            wait=wait,
            expires_in=float(ttl),
            password=password,
        )
        return lease

    def answer(
        self,
        client: str,
        lease: KeptLease,
        *,
        at: float,
        took: float | None = None,
        answered: bool = True,
        again: bool = False,
        wait: float = 0,
        expires_in: float = 60.0,
        password: str = PASSWORD,
        **changes: Any,
    ) -> Call:
        """The call that is answered with the lease, or `again` under its key."""
        alone = lease.operation == "acquire_lock"
        path = f"/api/v1/users/{lease.users[0]}/acquire_lock" if alone else "/api/v1/leases"
        body = (
            {}
            if alone
            else {"project": "shop", "env": "stage", "count": len(lease.users), "wait_seconds": wait}
        )
        if lease.priority:
            body["priority"] = lease.priority
        seen: dict[str, Any] = {
            "body": body,
            "key": lease.key,
            "principal": lease.principal,
            "error": LOST,
        }
        if answered:
            shown = lease_answer(lease, expires_in=expires_in, password=password)
            seen |= {"status": 200 if again or alone else 201, "answer": shown, "error": ""}
        return self.call(client, lease.operation, "POST", path, at, took=took, **{**seen, **changes})

    def renew(
        self,
        client: str,
        lease: KeptLease,
        *,
        at: float,
        ttl: float = 60,
        took: float | None = None,
        answered: bool = True,
        renewed_at: float | None = None,
    ) -> Call:
        took = self.took if took is None else took
        moment = START + timedelta(seconds=at + took / 2 if renewed_at is None else renewed_at)
        lease = self.kept.leases[lease.id]
        lease = replace(lease, expires_at=max(lease.expires_at, moment + timedelta(seconds=ttl)))
        self.kept.leases[lease.id] = lease
        answer = lease_answer(lease, expires_in=(lease.expires_at - moment).total_seconds())
        seen: dict[str, Any] = {"status": 200, "answer": answer} if answered else {"error": LOST}
        path = f"/api/v1/leases/{lease.id}/renew"
        return self.call(
            client, "renew_lease", "POST", path, at, took=took, principal=lease.principal, **seen
        )

    def release(
        self,
        client: str,
        lease: KeptLease,
        *,
        at: float,
        took: float | None = None,
        answered: bool = True,
        ended_at: float | None = None,
    ) -> Call:
        took = self.took if took is None else took
        ended = self.end(
            lease, at=at + took / 2 if ended_at is None else ended_at, by="released", outcome="ok"
        )
        seen: dict[str, Any] = {"error": LOST}
        if answered:
            seen = {"status": 200, "answer": lease_answer(ended, password=None)}
        path = f"/api/v1/leases/{lease.id}/release"
        return self.call(
            client, "release_lease", "POST", path, at, took=took, principal=lease.principal, **seen
        )

    def end(self, lease: KeptLease, *, at: float, by: str = "expired", **columns: Any) -> KeptLease:
        """The farm ends the lease."""
        moment = START + timedelta(seconds=at)
        lease = replace(self.kept.leases[lease.id], ended_at=moment, ended_by=by, **columns)
        self.kept.leases[lease.id] = lease
        return lease

    def problem(
        self, client: str, operation: str, path: str, status: int, slug: str, *, at: float, **seen: Any
    ) -> Call:
        """A call that is answered with a problem."""
        answer = {
            "type": f"urn:botfarm:problem:{slug}",
            "title": slug,
            "status": status,
            "detail": "Told by a test.",
            "request_id": "a" * 32,
        }
        details = seen.pop("details", {})
        return self.call(
            client,
            operation,
            "POST",
            path,
            at,
            **{
                "status": status,
                "answer": answer | details,
                "content_type": "application/problem+json",
                **seen,
            },
        )

    def finish(self, at: float = 1000) -> tuple[History, Kept]:
        """The history and what is kept of it, when all that was left has expired."""
        self.kept.now = START + timedelta(seconds=at)
        for lease in list(self.kept.leases.values()):
            if lease.ended_at is None and lease.expires_at <= self.kept.now:
                self.kept.leases[lease.id] = replace(lease, ended_at=lease.expires_at, ended_by="expired")
        return self.history, self.kept


def lease_answer(
    lease: KeptLease, *, expires_in: float = 60.0, password: str | None = PASSWORD
) -> dict[str, Any]:
    """The lease as the API answers it; with the password for its holder."""
    project, env, domain = lease.pool
    place = {"project_id": project, "env": env, "domain": domain}
    return {
        "id": lease.id,
        "fence": lease.fence,
        **place,
        "purpose": lease.purpose,
        "owner": None,
        "metadata": {},
        "acquired_at": lease.acquired_at.isoformat(),
        "expires_at": lease.expires_at.isoformat(),
        "expires_in": 0 if lease.ended_at else expires_in,
        "ttl_seconds": 60,
        "hold_until": (lease.acquired_at + timedelta(hours=12)).isoformat(),
        "ended_at": lease.ended_at and lease.ended_at.isoformat(),
        "ended_by": lease.ended_by,
        "outcome": lease.outcome,
        "reason": lease.reason,
        "note": None,
        "requested_at": lease.requested_at and lease.requested_at.isoformat(),
        "waited": lease.waited,
        "labels": {},
        "users": [
            {
                "id": user,
                "login": f"{user[-4:]}@shop.test",
                **place,
                **({} if password is None else {"password": password}),
                "locktime": None if lease.ended_at else lease.acquired_at.isoformat(),
                "labels": {},
            }
            for user in lease.users
        ],
    }
