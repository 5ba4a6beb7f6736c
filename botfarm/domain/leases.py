"""Leases, and the requests for them.

Times are aware datetimes of the database's clock, durations are seconds.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from botfarm.domain.access import Principal
from botfarm.domain.credentials import SealedCredentials, TotpCode
from botfarm.domain.pools import Pool
from botfarm.domain.wanted_labels import WantedLabels

MAX_USERS = 100
"""The most users of one lease, and of all requests of one batch together."""


class EndedBy(StrEnum):
    RELEASED = "released"
    EXPIRED = "expired"
    FORCED = "forced"


class Outcome(StrEnum):
    OK = "ok"
    DIRTY = "dirty"
    BROKEN = "broken"


class Reason(StrEnum):
    """Why a user is broken, or dirty."""

    CREDENTIAL_REJECTED = "credential_rejected"
    LOCKED_OUT = "locked_out"
    CAPTCHA = "captcha"
    MFA = "mfa"
    DATA = "data"
    RATE_LIMITED = "rate_limited"
    ENVIRONMENT = "environment"
    OTHER = "other"


BLAMELESS = frozenset({Reason.RATE_LIMITED, Reason.ENVIRONMENT})
"""These say nothing about the user, so they count as no failure."""

REJECTED = frozenset({Reason.CREDENTIAL_REJECTED, Reason.LOCKED_OUT})
"""After these a chore does not sign in again until the credentials are changed: more tries lock the account."""


class Purpose(StrEnum):
    TEST = "test"
    CHORE = "chore"
    """A keeper cleans, checks, or changes the password."""
    HOLD = "hold"
    """A person keeps the user for a while."""


class Due(StrEnum):
    """What a keeper is to do with the user of a chore."""

    CLEAN = "clean"
    CHECK = "check"
    ROTATE = "rotate"
    SESSION = "session"


class LeaseState(StrEnum):
    ACTIVE = "active"
    ENDED = "ended"


class LeaseOperation(StrEnum):
    """The operation that took a lease. `release_lock` without a lease id serves only `acquire_lock`."""

    ACQUIRE_LOCK = "acquire_lock"
    ACQUIRE_LEASE = "acquire_lease"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the release of a lease says: of all its users, or of one of them."""

    outcome: Outcome | None = Outcome.OK
    """Null when nobody has used the lease."""
    reason: Reason | None = None
    note: str | None = None

    @property
    def may_quarantine(self) -> bool:
        """Whether it can be the last failure of a user, or of a keeper's attempts."""
        is_broken = self.outcome is Outcome.BROKEN and self.reason not in BLAMELESS
        return is_broken or self.outcome is Outcome.DIRTY


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """The fields of a new lease that do not depend on its users."""

    ttl_seconds: int | None = None
    """Null means the default of the project."""
    owner: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    """With a key: the digest of the request, by which a retry is told from another request under the key."""
    note: str | None = None
    """Why a person holds the user."""

    def held_by(self, principal: Principal) -> "LeaseTerms":
        """The terms as the lease keeps them: of a CI's run, with the owner and the facts that its CI has signed.

        The owner that the run itself gave, such as the name of a test, is kept among the metadata.
        """
        run = principal.run
        if run is None:
            return self
        given = {} if self.owner is None else {"runner": self.owner}
        return replace(self, owner=run.owner, metadata={**self.metadata, **given, **run.metadata})


WantedUsers = tuple[frozenset[tuple[str, str | tuple[str, ...] | None]], UUID | None]
"""Which users of its pool a request asks for: `WantedLabels`, and the id of one user if no other will do."""


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A request for users of a pool, from the service through the queue to the statement."""

    principal: Principal
    pool: Pool
    labels: WantedLabels = field(default_factory=dict)
    """What is asked of the labels of each user."""
    count: int = 1
    priority: int = 0
    """Each step counts as a minute of waiting in the queue."""
    terms: LeaseTerms = field(default_factory=LeaseTerms)
    purpose: Purpose = Purpose.TEST
    wait_seconds: float = 0
    """How long the request was ready to wait."""
    received_at: float = field(default_factory=time.monotonic)
    """By the monotonic clock."""
    user_id: UUID | None = None
    """This user of the pool, and no other."""

    @property
    def wanted(self) -> WantedUsers:
        return frozenset(self.labels.items()), self.user_id

    @property
    def queue(self) -> tuple[Pool, Purpose]:
        """Where it waits: tests and keepers of a pool have a queue each."""
        return self.pool, self.purpose


@dataclass(frozen=True, slots=True)
class LeasedUser:
    """A user of a lease. The credentials are in clear for the holder of the live lease, else null."""

    id: UUID
    login: str
    pool: Pool
    locktime: datetime | None
    labels: Mapping[str, str]
    sealed: SealedCredentials | None
    """Null unless they were read. Only operations of the holder read them."""
    password: str | None = field(default=None, repr=False)
    secrets: Mapping[str, object] | None = field(default=None, repr=False)
    totp: TotpCode | None = None
    pending_password: str | None = field(default=None, repr=False)
    """The new password of a rotation that is not confirmed; shown to keepers."""
    due: tuple[Due, ...] = ()
    """Of a chore: what is to be done."""
    outcome: Outcome | None = None
    """What the release said of this user, as the two below; null when nothing was said."""
    reason: Reason | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    id: UUID
    fence: int
    principal: str
    operation: LeaseOperation
    purpose: Purpose
    owner: str | None
    pool: Pool
    project_name: str
    metadata: Mapping[str, object]
    acquired_at: datetime
    expires_at: datetime
    expires_in: float
    """Seconds until it expires; 0 when it has ended."""
    ttl_seconds: int
    hold_until: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    outcome: Outcome | None
    reason: Reason | None
    note: str | None
    """The note of its release, or why it was forced."""
    fingerprint: bytes | None
    users: tuple[LeasedUser, ...]
    requested_at: datetime | None = None
    """When its first request arrived; null for leases of earlier versions, as the three below."""
    labels: WantedLabels | None = None
    """What was asked of the labels of its users."""
    waited: float | None = None
    """Seconds from that request to the grant."""
    row_version: int | None = None
    """For a new lease the `xmin` of its row, which changes when the lease is renewed, replayed or ended."""

    @property
    def is_live(self) -> bool:
        return self.ended_at is None


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a request for a lease."""

    lease: Lease
    replayed: bool = False
    """True when an earlier request under the same key got the lease."""


@dataclass(frozen=True, slots=True)
class EndedLease:
    """A lease that has just ended, as the metrics count it."""

    pool: Pool
    project_name: str
    held_for: float
    """Seconds from grant to end."""
    id: UUID
    purpose: Purpose = Purpose.TEST
    user_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseFilter:
    """Null means any."""

    state: LeaseState | None = None
    project_id: UUID | None = None
    env: str | None = None
    domain: str | None = None
    user_id: UUID | None = None
    owner: str | None = None
    principal: str | None = None
    purpose: Purpose | None = None
