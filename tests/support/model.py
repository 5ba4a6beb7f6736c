"""The rules of a lease in plain Python, to compare the farm with: one caller, a clock that is moved by hand.

Each operation changes the model and returns the answer that the farm must give, or raises the error that the
farm must raise. The farm makes the ids: `look_up` says which users are next, `hand_out` is told their lease.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from botfarm import errors
from botfarm.domain.leases import EndedBy
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.projects import ProjectPolicy
from botfarm.domain.users import UserChanges, UserState

UNCLAIMED_TTL = 30


@dataclass(frozen=True)
class Wanted:
    """What an acquire asks for; a retry under a key must ask for the same."""

    principal: str
    key: str | None
    ttl: int | None
    what: Pool | UUID
    """A pool for acquire_lease, a user for acquire_lock."""
    labels: tuple[tuple[str, str], ...] = ()
    count: int = 1


@dataclass(eq=False)
class ModelLease:
    wanted: Wanted
    pool: Pool
    users: list[UUID]
    acquired_at: float
    expires_at: float
    hold_until: float
    ttl: int
    ended_by: EndedBy | None = None


@dataclass(eq=False)
class ModelUser:
    login: str
    password: str
    pool: Pool
    labels: Mapping[str, str]
    available_at: float
    quarantined: bool = False
    lease: ModelLease | None = None
    """The last one, live or not."""


@dataclass
class Model:
    now: float = 0
    projects: dict[UUID, ProjectPolicy] = field(default_factory=dict)
    users: dict[UUID, ModelUser] = field(default_factory=dict)
    leases: dict[UUID, ModelLease] = field(default_factory=dict)
    """In the order of their hand-outs, so of their fences."""
    hands: dict[Pool, UUID] = field(default_factory=dict)
    """Who was handed out last in each pool: next is who comes after."""

    def ended_by(self, lease: ModelLease) -> EndedBy | None:
        return lease.ended_by or (EndedBy.EXPIRED if lease.expires_at <= self.now else None)

    def live_lease(self, user: ModelUser) -> ModelLease | None:
        return user.lease if user.lease and self.ended_by(user.lease) is None else None

    def state(self, user: ModelUser) -> UserState:
        if user.quarantined:
            return UserState.QUARANTINED
        if self.live_lease(user):
            return UserState.LEASED
        return UserState.RESTING if user.available_at > self.now else UserState.FREE

    def counts(self, users: Iterable[UUID]) -> PoolCounts:
        found = [
            (self.state(user), user.available_at - self.now) for user in map(self.users.__getitem__, users)
        ]
        number = {state.value: sum(each is state for each, _ in found) for state in UserState}
        due = [due for state, due in found if state in {UserState.LEASED, UserState.RESTING}]
        return PoolCounts(total=len(found), **number, next_free_in=min(due, default=None))

    def members(self, pool: Pool, labels: Iterable[tuple[str, str]] = ()) -> list[UUID]:
        wanted = set(labels)
        return [
            key for key, user in self.users.items() if user.pool == pool and wanted <= user.labels.items()
        ]

    def shown(self, lease: ModelLease) -> list[UUID]:
        """Its users, without those that were deleted since."""
        return sorted(set(lease.users) & self.users.keys())

    def look_up(self, wanted: Wanted) -> ModelLease | list[UUID]:
        """The lease that a retry gets again, or those one of whom is next."""
        if isinstance(wanted.what, Pool) and wanted.what.project_id not in self.projects:
            raise errors.NoSuchProjectError
        for lease in self.leases.values():
            if wanted.key and (lease.wanted.principal, lease.wanted.key) == (wanted.principal, wanted.key):
                return self._replayed(lease, wanted)
        if isinstance(wanted.what, Pool):
            return self._from_pool(wanted.what, wanted)
        user = self._user(wanted.what)
        if user.quarantined:
            raise errors.UserQuarantinedError
        if self.state(user) is not UserState.FREE:
            raise self._busy(user)
        return [wanted.what]

    def _replayed(self, lease: ModelLease, wanted: Wanted) -> ModelLease:
        if lease.wanted != wanted:
            raise errors.IdempotencyKeyReusedError
        if self.ended_by(lease):
            raise errors.IdempotencyKeyEndedError
        whole = min(lease.acquired_at + lease.ttl, lease.hold_until)
        if lease.expires_at < whole:
            self._end_at(lease, whole)
        return lease

    def _from_pool(self, pool: Pool, wanted: Wanted) -> list[UUID]:
        members = self.members(pool, wanted.labels)
        if not members:
            raise errors.NoSuchPoolError
        if len(members) < wanted.count:
            raise errors.PoolTooSmallError(total=len(members))
        free = [each for each in members if self.state(self.users[each]) is UserState.FREE]
        if len(free) < wanted.count:
            counts = self.counts(members)
            names = ("total", "leased", "resting", "quarantined", "next_free_in")
            raise errors.PoolExhaustedError(**{name: getattr(counts, name) for name in names})
        hand = self.hands.get(pool)
        # Where the first round starts is left to chance; from then on it goes on where it stopped.
        return sorted(free, key=lambda each: (each <= hand, each))[: wanted.count] if hand else free

    def hand_out(self, wanted: Wanted, lease_id: UUID, users: list[UUID]) -> ModelLease:
        pool = self.users[users[0]].pool
        policy = self.projects[pool.project_id]
        ttl = min(wanted.ttl or policy.default_ttl, policy.max_ttl, policy.max_hold)
        lease = ModelLease(wanted, pool, users, self.now, 0, self.now + policy.max_hold, ttl)
        self.leases[lease_id] = lease
        hand = self.hands.get(pool)
        if isinstance(wanted.what, Pool) and (
            hand or len(users) == 1
        ):  # a first batch hides where it started
            self.hands[pool] = max(users, key=lambda each: (hand is not None and each <= hand, each))
        for each in users:
            self.users[each].lease = lease
        self._end_at(lease, self.now + ttl)
        return lease

    def hang_up(self, lease: ModelLease) -> None:
        """The caller was gone before it had its new lease."""
        if lease.wanted.key:
            self._end_at(lease, min(lease.expires_at, self.now + UNCLAIMED_TTL))
        else:
            self._end(lease, EndedBy.RELEASED, rest=0)

    def renew(self, principal: str, lease_id: UUID, ttl: int | None) -> ModelLease:
        lease = self._held(principal, lease_id)
        if self.ended_by(lease):
            raise errors.LeaseLapsedError
        left = max(1, math.ceil(lease.hold_until - self.now))
        lease.ttl = min(ttl or lease.ttl, self.projects[lease.pool.project_id].max_ttl, left)
        self._end_at(lease, max(lease.expires_at, min(self.now + lease.ttl, lease.hold_until)))
        return lease

    def release(self, principal: str, lease_id: UUID) -> ModelLease:
        lease = self._held(principal, lease_id)
        if self.ended_by(lease) in {EndedBy.EXPIRED, EndedBy.FORCED}:
            raise errors.LeaseLapsedError
        if not lease.ended_by:
            self._end(lease, EndedBy.RELEASED, rest=self.projects[lease.pool.project_id].cooldown)
        return lease

    def release_lock(self, principal: str, user_id: UUID, lease_id: UUID | None) -> None:
        lease = self._held(principal, lease_id) if lease_id else self.live_lease(self._user(user_id))
        if lease is None:
            return
        if user_id not in self.shown(lease):
            raise errors.NoSuchLeaseError
        if lease.wanted.principal != principal:
            raise errors.NotTheHolderError
        if len(self.shown(lease)) > 1:
            raise errors.UseReleaseLeaseError
        if lease_id is None and isinstance(lease.wanted.what, Pool):
            raise errors.LeaseIdRequiredError
        self.release(principal, next(key for key, each in self.leases.items() if each is lease))

    def force_release(self, lease_id: UUID) -> ModelLease:
        lease = self.leases[lease_id]
        if self.ended_by(lease) is None:
            self._end(lease, EndedBy.FORCED, rest=self.projects[lease.pool.project_id].lock_delay)
        return lease

    def _held(self, principal: str, lease_id: UUID) -> ModelLease:
        if self.leases[lease_id].wanted.principal != principal:
            raise errors.NotTheHolderError
        return self.leases[lease_id]

    def _end_at(self, lease: ModelLease, expires_at: float) -> None:
        lease.expires_at = expires_at
        for each in lease.users:
            self.users[each].available_at = expires_at + self.projects[lease.pool.project_id].lock_delay

    def _end(self, lease: ModelLease, how: EndedBy, *, rest: int) -> None:
        lease.ended_by = how
        for each in lease.users:
            self.users[each].available_at = self.now + rest

    def add_user(self, user_id: UUID, user: ModelUser) -> None:
        self._check(user.login, user.pool, among=self.users.values())
        self.users[user_id] = user

    def update_user(self, user_id: UUID, changes: UserChanges) -> ModelUser:
        user = self._user(user_id)
        where = {
            name: getattr(changes, name) or getattr(user.pool, name)
            for name in ("project_id", "env", "domain")
        }
        moved, login = Pool(**where), changes.login or user.login
        if moved != user.pool and self.live_lease(user):
            raise self._busy(user)
        self._check(login, moved, among=(each for each in self.users.values() if each is not user))
        user.login, user.password, user.pool = login, changes.password or user.password, moved
        labels = {**user.labels, **changes.labels}
        user.labels = {name: value for name, value in labels.items() if value is not None}
        return user

    def quarantine(self, user_id: UUID, *, is_on: bool) -> ModelUser:
        user = self._user(user_id)
        user.quarantined = is_on
        return user

    def delete_user(self, user_id: UUID) -> None:
        if self.live_lease(self._user(user_id)):
            raise self._busy(self.users[user_id])
        del self.users[user_id]

    def update_project(self, project_id: UUID, policy: Mapping[str, int]) -> None:
        if project_id not in self.projects:
            raise errors.NoSuchProjectError
        self.projects[project_id] = replace(self.projects[project_id], **policy)

    def delete_project(self, project_id: UUID) -> None:
        if any(user.pool.project_id == project_id for user in self.users.values()):
            raise errors.ProjectInUseError
        if self.projects.pop(project_id, None) is None:
            raise errors.NoSuchProjectError

    def _user(self, user_id: UUID) -> ModelUser:
        if user_id not in self.users:
            raise errors.NoSuchUserError
        return self.users[user_id]

    def _busy(self, user: ModelUser) -> errors.UserBusyError:
        if user.quarantined:
            return errors.UserBusyError()  # nobody says when it can be had
        lease = self.live_lease(user)
        return errors.UserBusyError(expires_in=(lease.expires_at if lease else user.available_at) - self.now)

    def _check(self, login: str, pool: Pool, *, among: Iterable[ModelUser]) -> None:
        if pool.project_id not in self.projects:
            raise errors.NoSuchProjectError
        for user in among:
            there = (user.pool.project_id, user.pool.env, user.login.lower())
            if there == (pool.project_id, pool.env, login.lower()):
                raise errors.UserExistsError
