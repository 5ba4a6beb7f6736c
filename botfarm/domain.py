"""The nouns of the farm. Times are aware datetimes of the database's clock, durations are seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar
from uuid import UUID

Item = TypeVar("Item")
MAX_LABELS = 64
"""Of one user."""
MAX_SECRETS_BYTES = 262_144
"""Of one user, as JSON. What a browser keeps for a site that is signed in to is some tens of kilobytes."""


class Env(StrEnum):
    PROD = "prod"
    PREPROD = "preprod"
    STAGE = "stage"


class Domain(StrEnum):
    CANARY = "canary"
    REGULAR = "regular"


class UserState(StrEnum):
    FREE = "free"
    LEASED = "leased"
    RESTING = "resting"
    QUARANTINED = "quarantined"


class UserStatus(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"


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
class LeasePolicy:
    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    created_at: datetime
    name: str
    policy: LeasePolicy


@dataclass(frozen=True, slots=True)
class Pool:
    """The users of one (project, env, domain): the unit of one request and one queue."""

    project_id: UUID
    env: Env
    domain: Domain


@dataclass(frozen=True, slots=True)
class User:
    """A test account as anyone may see it: no password. Lock columns are null once the lease has expired."""

    id: UUID
    created_at: datetime
    login: str
    pool: Pool
    state: UserState
    locktime: datetime | None
    expires_at: datetime | None
    busy_for: float | None
    """Seconds until its lease expires or, when it rests, until it may be had again; else null."""
    available_at: datetime
    lease_id: UUID | None
    labels: Mapping[str, str]
    status: UserStatus
    status_reason: str | None
    status_since: datetime | None
    has_secrets: bool
    has_totp: bool
    last_lease: "Lease | None" = None
    """Read only where one user is asked for; null too when it was never leased or the history is pruned."""


@dataclass(frozen=True, slots=True)
class UserChanges:
    """Null leaves a field as it is; a label or a secret whose value is null is removed."""

    login: str | None = None
    password: str | None = field(default=None, repr=False)
    secrets: Mapping[str, object] = field(default_factory=dict, repr=False)
    removes_secrets: bool = False
    """All of them, before those of `secrets` are added."""
    totp_seed: str | None = field(default=None, repr=False)
    removes_totp_seed: bool = False
    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    status: UserStatus | None = None
    status_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ProjectChanges:
    """Null leaves a field as it is."""

    name: str | None = None
    default_ttl: int | None = None
    max_ttl: int | None = None
    max_hold: int | None = None
    lock_delay: int | None = None
    cooldown: int | None = None


@dataclass(frozen=True, slots=True)
class LineError:
    """What is wrong with a line of an import; the first line is 1."""

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


@dataclass(frozen=True, slots=True)
class SealedCredentials:
    """As they are stored: encrypted, and bound to their user."""

    password: str = field(repr=False)
    secrets: str | None = field(default=None, repr=False)
    totp_seed: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class TotpCode:
    code: str = field(repr=False)
    expires_in: float
    """Seconds until the next one."""


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
class PoolCounts:
    """How the users of a pool (or those of them that match some labels) stand at one moment."""

    total: int
    free: int
    leased: int
    resting: int
    quarantined: int
    next_free_in: float | None
    """Seconds until the next user that is not free becomes free by time alone; null when none will."""
    waiting: int = 0
    oldest_wait: float | None = None


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: Pool
    project_name: str
    counts: PoolCounts


@dataclass(frozen=True, slots=True)
class EndedLease:
    """What the metrics need to know of a lease that has just ended."""

    pool: Pool
    project_name: str
    held_for: float
    """Seconds from hand-out to end."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    items: tuple[Item, ...]
    next_cursor: str | None


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
class LeaseFilter:
    """Null means any."""

    state: LeaseState | None = None
    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None
    user_id: UUID | None = None
    owner: str | None = None
    principal: str | None = None


def id_or_name(text: str) -> UUID | str:
    """A project is found by either, so no name looks like a UUID."""
    try:
        return UUID(text)
    except ValueError:
        return text
