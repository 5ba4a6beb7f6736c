"""The users, leases and problems of a fake farm. All times are seconds of the SDK's clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from botfarm_client.shared import clock

STATUSES = {
    "malformed-json": 400,
    "unauthenticated": 401,
    "no-such-project": 404,
    "no-such-user": 404,
    "no-such-lease": 404,
    "no-such-pool": 404,
    "no-such-page": 404,
    "user-busy": 409,
    "user-dirty": 409,
    "user-quarantined": 409,
    "user-retired": 409,
    "rotation-pending": 409,
    "no-rotation": 409,
    "pool-exhausted": 409,
    "pool-too-small": 409,
    "idempotency-key-ended": 409,
    "lease-lapsed": 410,
    "invalid-request": 422,
    "idempotency-key-reused": 422,
    "quota-exceeded": 429,
    "too-many-waiters": 429,
    "internal": 500,
    "database-unavailable": 503,
    "shutting-down": 503,
}

Status = Literal["active", "dirty", "quarantined", "retired"]


class FakeProblem(Exception):  # noqa: N818  it is an answer, not an error
    def __init__(self, slug: str, *, retry_after: int | None = None, **details: object) -> None:
        super().__init__(slug)
        self.slug = slug
        self.retry_after = retry_after
        self.details = details


def invalid(field: str, message: str, code: str = "invalid") -> FakeProblem:
    return FakeProblem("invalid-request", errors=[{"field": field, "code": code, "message": message}])


@dataclass(eq=False)
class FakeUser:
    login: str
    password: str = field(default="secret", repr=False)
    env: str = "stage"
    domain: str = "regular"
    labels: Mapping[str, str] = field(default_factory=dict)
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    totp: str | None = field(default=None, repr=False)
    """The one-time code that the farm gives. It never changes."""
    id: str = field(default_factory=lambda: str(uuid4()))
    lease: "FakeLease | None" = field(default=None, repr=False)
    """Its last lease."""
    available_at: float = field(default=0.0, repr=False)
    status: Status = "active"
    status_reason: str | None = None
    status_by: str | None = None
    status_since: float | None = field(default=None, repr=False)
    status_until: float | None = field(default=None, repr=False)
    health: Literal["unknown", "ok", "failing", "unreachable"] = "unknown"
    health_reason: str | None = None
    checked_at: float | None = field(default=None, repr=False)
    healthy_at: float | None = field(default=None, repr=False)
    failures: int = 0
    """In a row."""
    failed_chores: int = 0
    """In a row."""
    pending_password: str | None = field(default=None, repr=False)
    must_rotate: bool = field(default=False, repr=False)
    rotated_at: float | None = field(default=None, repr=False)
    session_expires_at: float | None = field(default=None, repr=False)
    quarantined_by_policy_at: float | None = field(default=None, repr=False)
    created_at: float = field(default_factory=clock.now, repr=False)

    @property
    def live_lease(self) -> "FakeLease | None":
        return self.lease if self.lease and self.lease.is_live else None

    @property
    def is_resting(self) -> bool:
        return self.available_at > clock.now()

    def set_status(
        self,
        status: Status,
        *,
        by: str | None = "policy",
        reason: str | None = None,
        until: float | None = None,
    ) -> None:
        if self.status != status:
            self.status_since = None if status == "active" else clock.now()
        self.status, self.status_by = status, None if status == "active" else by
        self.status_reason, self.status_until = reason, until


@dataclass(eq=False)
class FakeLease:
    users: list[FakeUser]
    env: str
    domain: str
    owner: str | None
    metadata: Mapping[str, Any]
    fence: int
    acquired_at: float
    ttl: int
    expires_at: float
    hold_until: float
    purpose: Literal["test", "chore", "hold"] = "test"
    key: str | None = None
    asked_for: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ended_at: float | None = None
    ended_by: Literal["released", "expired", "forced"] | None = None
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    due: Mapping[str, list[str]] = field(default_factory=dict)
    """Of a chore: what is to be done with each user, by their ids."""
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the release said of each user, by their ids."""
    waited: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def is_live(self) -> bool:
        """As of the farm's last check."""
        return self.ended_at is None


@dataclass(eq=False)
class FakeWaiter:
    """A request that waits for users."""

    purpose: str
    rank: float
    is_gone: Callable[[], bool]
    user: str | None = None
    """The login of the one user that it asks for."""
