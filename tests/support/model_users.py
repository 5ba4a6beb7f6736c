"""The users and leases of the model, and what a user is at a moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from botfarm.domain.health import Health
from botfarm.domain.leases import REJECTED, Due, EndedBy, Outcome, Purpose, Reason
from botfarm.domain.pools import Pool
from botfarm.domain.projects import Cleaning, ProjectPolicy
from botfarm.domain.users import UserState, UserStatus


@dataclass(frozen=True)
class Wanted:
    """What an acquire asks for; a retry under a key must ask for the same."""

    principal: str
    key: str | None
    ttl: int | None
    what: Pool | UUID
    """A pool for acquire_lease, a user for acquire_lock and for a hold."""
    labels: tuple[tuple[str, str], ...] = ()
    count: int = 1
    purpose: Purpose = Purpose.TEST


@dataclass(eq=False)
class ModelLease:
    wanted: Wanted
    pool: Pool
    users: list[UUID]
    acquired_at: float
    expires_at: float
    hold_until: float
    ttl: int
    due: Mapping[UUID, tuple[Due, ...]] = field(default_factory=dict)
    ended_by: EndedBy | None = None

    @property
    def is_chore(self) -> bool:
        return self.wanted.purpose is Purpose.CHORE


@dataclass(eq=False)
class ModelUser:
    login: str
    password: str
    pool: Pool
    labels: Mapping[str, str]
    available_at: float
    created_at: float
    status: UserStatus = UserStatus.ACTIVE
    """As stored: time may have changed it since."""
    until: float | None = None
    by_policy: bool = False
    reason: str | None = None
    health: Health = Health.UNKNOWN
    health_reason: str | None = None
    checked_at: float | None = None
    failures: int = 0
    failed_chores: int = 0
    must_rotate: bool = False
    rotated_at: float | None = None
    pending: str | None = None
    quarantined_by_policy_at: float | None = None
    lease: ModelLease | None = None
    """The last one, live or not."""
    settled: bool = True
    """Whether the end of the last lease is stored."""


@dataclass(frozen=True)
class Said:
    """What a release says of a user; of an expired or forced lease `is_lost`."""

    outcome: Outcome | None = Outcome.OK
    reason: Reason | None = None
    is_lost: bool = False


@dataclass(frozen=True)
class Moment:
    """A user at a moment, under the policy of its project."""

    user: ModelUser
    policy: ProjectPolicy
    now: float

    @property
    def is_cleaned(self) -> bool:
        """Whether a keeper comes after every test."""
        return self.policy.cleaning is Cleaning.REQUIRED or self.policy.rotate_on_release

    @property
    def live_lease(self) -> ModelLease | None:
        lease = self.user.lease
        return lease if lease and not lease.ended_by and lease.expires_at > self.now else None

    @property
    def expired_unseen(self) -> ModelLease | None:
        """The last lease, when time has ended it and nobody has stored that."""
        return None if self.user.settled or self.live_lease else self.user.lease

    @property
    def status(self) -> UserStatus:
        user, expired = self.user, self.expired_unseen
        if user.status is UserStatus.ACTIVE and expired and (expired.is_chore or self.is_cleaned):
            return UserStatus.DIRTY
        if user.status is UserStatus.QUARANTINED and user.until is not None and user.until <= self.now:
            unclean = self.is_cleaned or user.pending or (expired and expired.is_chore)
            return UserStatus.DIRTY if unclean else UserStatus.ACTIVE
        return user.status

    @property
    def state(self) -> UserState:
        lease = self.live_lease
        if self.status is UserStatus.RETIRED:
            return UserState.RETIRED
        if lease and lease.wanted.purpose is not Purpose.TEST:
            return UserState.CHORE if lease.is_chore else UserState.HELD
        if self.status is UserStatus.QUARANTINED:
            return UserState.QUARANTINED
        if lease:
            return UserState.LEASED
        if self.status is UserStatus.DIRTY:
            return UserState.DIRTY
        return UserState.RESTING if self.user.available_at > self.now else UserState.FREE

    @property
    def free_at(self) -> float | None:
        """When time alone lets a test have it."""
        lease = None if self.user.settled else self.user.lease
        if lease and (lease.is_chore or self.is_cleaned):
            return None
        if self.user.status is UserStatus.ACTIVE:
            return self.user.available_at
        is_timed = self.user.status is UserStatus.QUARANTINED and self.user.until is not None
        if not is_timed or self.user.pending or self.is_cleaned:
            return None
        return max(self.user.available_at, self.user.until or 0)

    @property
    def due_by_time(self) -> list[Due]:
        user, policy = self.user, self.policy
        checked = user.created_at if user.checked_at is None else user.checked_at + policy.check_every
        rotated = user.created_at if user.rotated_at is None else user.rotated_at
        due = []
        if policy.check_every and checked <= self.now:
            due.append(Due.CHECK)
        if policy.rotate_every and rotated + policy.rotate_every <= self.now:
            due.append(Due.ROTATE)
        return due

    @property
    def due(self) -> tuple[Due, ...]:
        """What a keeper is to do with it."""
        found = set(self.due_by_time)
        if self.status is UserStatus.DIRTY:
            found.add(Due.CLEAN)
        expired = self.expired_unseen
        seen_by_a_test = expired and not expired.is_chore and self.policy.rotate_on_release
        if self.user.must_rotate or seen_by_a_test or self.user.pending:
            found.add(Due.ROTATE)
        return tuple(each for each in Due if each in found)

    @property
    def waits_for_keeper(self) -> bool:
        user, expired = self.user, self.expired_unseen
        attempts = user.failed_chores + bool(expired and expired.is_chore)
        is_rejected = user.health is Health.FAILING and user.health_reason in REJECTED
        if self.live_lease or user.available_at > self.now or is_rejected:
            return False
        if attempts >= self.policy.clean_attempts:
            return False
        return self.status is UserStatus.DIRTY or (
            self.status is UserStatus.ACTIVE and bool(self.due_by_time)
        )
