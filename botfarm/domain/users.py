"""Users, which are the test accounts of the farm, and the lines of an import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from botfarm.domain.leases import Lease
from botfarm.domain.pools import Domain, Env, Pool

MAX_LABELS = 64
"""Labels of one user, at most."""


class UserState(StrEnum):
    FREE = "free"
    LEASED = "leased"
    RESTING = "resting"
    QUARANTINED = "quarantined"


class UserStatus(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class User:
    """A test account without credentials. `locktime` and `expires_at` are null once the lease has expired."""

    id: UUID
    created_at: datetime
    login: str
    pool: Pool
    state: UserState
    locktime: datetime | None
    expires_at: datetime | None
    busy_for: float | None
    """Seconds until its lease expires or its rest ends; null when it is neither leased nor resting."""
    available_at: datetime
    lease_id: UUID | None
    labels: Mapping[str, str]
    status: UserStatus
    status_reason: str | None
    status_since: datetime | None
    has_secrets: bool
    has_totp: bool
    last_lease: Lease | None = None
    """Null in lists, for a user that was never leased, and when the history is pruned."""


@dataclass(frozen=True, slots=True)
class UserChanges:
    """Null leaves a field as it is; a label or a secret whose value is null is removed."""

    login: str | None = None
    password: str | None = field(default=None, repr=False)
    secrets: Mapping[str, object] = field(default_factory=dict, repr=False)
    removes_secrets: bool = False
    """Removes all stored secrets before those of `secrets` are added."""
    totp_seed: str | None = field(default=None, repr=False)
    removes_totp_seed: bool = False
    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    status: UserStatus | None = None
    status_reason: str | None = None


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Null means any; all of the labels must match."""

    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    state: UserState | None = None
    login: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LineError:
    """An error in a line of an import. The first line is 1."""

    line: int
    field: str
    code: str


@dataclass(frozen=True, slots=True)
class UserLine:
    """A user of an import, and the line that it came from."""

    line: int
    login: str
    password: str = field(repr=False)
    pool: Pool
    labels: Mapping[str, str]
    secrets: Mapping[str, object] | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ImportResult:
    created: int
    skipped: int
    errors: tuple[LineError, ...]
