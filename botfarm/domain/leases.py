"""Leases. Times are aware datetimes of the database's clock, durations are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from botfarm.domain.credentials import SealedCredentials, TotpCode
from botfarm.domain.pools import Domain, Env, Pool


class EndedBy(StrEnum):
    RELEASED = "released"
    EXPIRED = "expired"
    FORCED = "forced"


class Outcome(StrEnum):
    OK = "ok"
    DIRTY = "dirty"
    BROKEN = "broken"


class LeaseState(StrEnum):
    ACTIVE = "active"
    ENDED = "ended"


class LeaseOperation(StrEnum):
    """Which operation took a lease; `release_lock` without a lease id trusts only its own counterpart."""

    ACQUIRE_LOCK = "acquire_lock"
    ACQUIRE_LEASE = "acquire_lease"


@dataclass(frozen=True, slots=True)
class LeasedUser:
    """A user as part of a lease. Credentials are in clear for the holder of the live lease, else null."""

    id: UUID
    login: str
    pool: Pool
    locktime: datetime | None
    labels: Mapping[str, str]
    sealed: SealedCredentials | None
    """Null where nobody is to read them."""
    password: str | None = field(default=None, repr=False)
    secrets: Mapping[str, object] | None = field(default=None, repr=False)
    totp: TotpCode | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    id: UUID
    fence: int
    principal: str
    operation: LeaseOperation
    owner: str | None
    pool: Pool
    project_name: str
    metadata: Mapping[str, object]
    acquired_at: datetime
    expires_at: datetime
    expires_in: float
    """Seconds it has left, 0 when it has ended."""
    ttl_seconds: int
    hold_until: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    outcome: Outcome | None
    note: str | None
    """What its release said, or the reason of a forced one."""
    fingerprint: bytes | None
    users: tuple[LeasedUser, ...]
    row_version: int | None = None
    """Of a new lease: what its row's `xmin` is until somebody renews, replays or ends it."""

    @property
    def is_live(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class EndedLease:
    """What the metrics need to know of a lease that has just ended."""

    pool: Pool
    project_name: str
    held_for: float
    """Seconds from hand-out to end."""


@dataclass(frozen=True, slots=True)
class LeaseFilter:
    """Null means any."""

    state: LeaseState | None = None
    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    user_id: UUID | None = None
    owner: str | None = None
    principal: str | None = None
