"""Users, which are the test accounts of the farm, and the lines of an import."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from botfarm.domain.credentials import ClearCredentials
from botfarm.domain.health import Health
from botfarm.domain.leases import EndedBy, Lease, Purpose, Verdict
from botfarm.domain.pools import Pool

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
"""Stands in `status_by` where a person's or a token's name would, when the policy has changed a status."""

BY_HAND = "hand"
"""Stands for all operators and tokens in metrics of changes of a status."""

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
    managed_by: str | None = None
    """The file that made it; null for a user that was made by other ways."""
    last_lease: Lease | None = None
    """Null in lists, for a user that was never leased, and when the history is pruned."""

    @property
    def is_retired(self) -> bool:
        return self.status is UserStatus.RETIRED

    @property
    def version(self) -> str:
        """Differs after each change by hand or by policy, but not after a lease.

        By it a change notices that somebody else was faster.
        """
        labels = sorted(self.labels.items())
        status = (
            self.status,
            self.status_reason,
            self.status_since,
            self.status_by,
            self.status_until,
        )
        return hashlib.sha256(repr((self.login, self.pool, labels, status)).encode()).hexdigest()[:16]


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
    env: str | None = None
    domain: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    session_expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Null means any; all of the labels must match."""

    project_id: UUID | None = None
    env: str | None = None
    domain: str | None = None
    state: UserState | None = None
    health: Health | None = None
    login: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    search: str | None = None
    """A part of the login, in upper or lower case."""


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
    login: str | None
    """Null when the scope has no such user."""
    problem: str
    """The slug of the problem that the change of this user alone would have met."""


@dataclass(frozen=True, slots=True)
class BulkResult:
    matched: int
    done: int
    """Of a dry run: what would be done."""
    replaced: int
    """Of those done: users that were quarantined or retired already and got another reason."""
    failed: tuple[BulkFailure, ...]


@dataclass(frozen=True, slots=True)
class ExportedUser:
    user: User
    project: str
    credentials: ClearCredentials | None = field(default=None, repr=False)
    """Null in an export without credentials."""


class OnError(StrEnum):
    """What an import does where a line is wrong, or where its user is there already."""

    FAIL = "fail"
    """It does nothing."""
    SKIP = "skip"
    """It passes over the line."""
    UPDATE = "update"
    """It changes a user that is there, and does nothing where a line is wrong."""


@dataclass(frozen=True, slots=True)
class LineError:
    """An error in a line of an import. The first line is 1."""

    line: int
    field: str
    code: str
    earlier_line: int | None = None
    """The first line of the same account, where that is the error."""

    def shown(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


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
    updated: int
    unchanged: int
    """Users that were there and already had all that their lines say."""
    skipped: int
    errors: tuple[LineError, ...]
