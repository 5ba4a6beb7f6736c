"""Users, which are the test accounts of the farm, and the lines of an import."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from botfarm.domain.health import Health
from botfarm.domain.leases import EndedBy, Lease, Purpose, Verdict
from botfarm.domain.pools import Domain, Env, Pool

MAX_LABELS = 64
"""Labels of one user, at most."""


class UserState(StrEnum):
    """As it is shown and counted; the first three are of active users."""

    FREE = "free"
    LEASED = "leased"
    RESTING = "resting"
    DIRTY = "dirty"
    CHORE = "chore"
    """Leased by a keeper."""
    HELD = "held"
    """Leased by a person."""
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class UserStatus(StrEnum):
    """Whether tests may have the user."""

    ACTIVE = "active"
    DIRTY = "dirty"
    """It waits for a keeper."""
    QUARANTINED = "quarantined"
    RETIRED = "retired"
    """For good; its history stays."""


POLICY = "policy"
"""Who has changed a user's status, when the project's policy has."""

BY_HAND = "hand"
"""Who has changed a user's status in metrics, when an operator or a token has."""

CLEANING_FAILED = "cleaning_failed"
"""The reason of a quarantine after too many chores that failed."""


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
    status_by: str | None
    """The principal, or `policy`."""
    status_until: datetime | None
    """When a quarantine ends by itself."""
    health: Health
    health_reason: str | None
    checked_at: datetime | None
    healthy_at: datetime | None
    failures: int
    """Failures in a row."""
    rotated_at: datetime | None
    is_rotating: bool
    """True while a new password is pending."""
    session_expires_at: datetime | None
    has_secrets: bool
    has_totp: bool
    last_lease: Lease | None = None
    """Null in lists, for a user that was never leased, and when the history is pruned."""

    @property
    def is_retired(self) -> bool:
        return self.status is UserStatus.RETIRED


@dataclass(frozen=True, slots=True)
class UserLease:
    """A lease as the history of one of its users has it."""

    id: UUID
    fence: int
    purpose: Purpose
    owner: str | None
    metadata: Mapping[str, object]
    acquired_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    verdict: Verdict
    """What its release said of this user."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A lease of a user, or something that was done to it by hand or by policy."""

    at: datetime
    action: str
    """The operation that took the lease, or the action of the audit."""
    principal: str
    lease: UserLease | None
    details: Mapping[str, object]


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
    session_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Null means any; all of the labels must match."""

    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    state: UserState | None = None
    health: Health | None = None
    login: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


class BulkAction(StrEnum):
    QUARANTINE = "quarantine"
    RESTORE = "restore"
    RETIRE = "retire"
    DELETE = "delete"
    LABEL = "label"

    @property
    def operation(self) -> str:
        """As the audit names the same change of one user."""
        return "update_user" if self is BulkAction.LABEL else f"{self.value}_user"


@dataclass(frozen=True, slots=True)
class BulkChange:
    action: BulkAction
    reason: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """Merged into the user's; null removes one."""


@dataclass(frozen=True, slots=True)
class BulkFailure:
    id: UUID
    problem: str
    """The slug of the problem that the change of this user alone would have met."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    matched: int
    done: int
    """Of a dry run: what would be done."""
    failed: tuple[BulkFailure, ...]


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
