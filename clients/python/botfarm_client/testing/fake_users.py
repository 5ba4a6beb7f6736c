"""The users, leases and problems of a fake farm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

STATUSES = {
    "malformed-json": 400,
    "unauthenticated": 401,
    "no-such-project": 404,
    "no-such-user": 404,
    "no-such-lease": 404,
    "no-such-pool": 404,
    "no-such-page": 404,
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


class FakeProblem(Exception):  # noqa: N818  it is an answer, not an error
    def __init__(self, slug: str, *, retry_after: int | None = None, **details: object) -> None:
        super().__init__(slug)
        self.slug = slug
        self.retry_after = retry_after
        self.details = details


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


@dataclass(eq=False)
class FakeLease:
    users: list[FakeUser]
    env: str
    domain: str
    owner: str | None
    metadata: Mapping[str, Any]
    fence: int
    acquired_at: float
    """In seconds of the SDK's clock, as all other times here."""
    ttl: int
    expires_at: float
    hold_until: float
    key: str | None = None
    asked_for: Mapping[str, Any] = field(default_factory=dict, repr=False)
    ended_at: float | None = None
    ended_by: Literal["released", "expired", "forced"] | None = None
    outcome: str | None = None
    reason: str | None = None
    note: str | None = None
    verdicts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the release said of each user, by their ids."""
    waited: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def is_live(self) -> bool:
        """As of the farm's last check."""
        return self.ended_at is None
