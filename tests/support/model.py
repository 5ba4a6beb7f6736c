"""The rules of a lease in plain Python, to hold the farm against: one caller at a time, and a clock that stands still
until it is moved.

Each operation changes the model and returns what the farm must answer, or raises the error that the farm must raise.
Ids and hand-outs are the farm's to make: `look_up` predicts them, then `hand_out` is told them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from uuid import UUID

from botfarm import errors
from botfarm.domain import EndedBy, LeasePolicy, Pool, PoolCounts, UserChanges, UserState, UserStatus


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

    @property
    def is_lock(self) -> bool:
        return isinstance(self.wanted.what, UUID)


@dataclass(eq=False)
class ModelUser:
    login: str
    password: str
    pool: Pool
    labels: dict[str, str]
    available_at: float
    quarantined: bool = False
    lease: UUID | None = None
    """The last one, live or not."""


@dataclass
class Model:
    now: float = 0
    projects: dict[UUID, LeasePolicy] = field(default_factory=dict)
    users: dict[UUID, ModelUser] = field(default_factory=dict)
    leases: dict[UUID, ModelLease] = field(default_factory=dict)
    """In the order of their hand-out, so of their fences."""
    hands: dict[Pool, UUID] = field(default_factory=dict)
    """Who was handed out last in each pool: the next one is who comes behind."""

    # How things stand

    def ended_by(self, lease: ModelLease) -> EndedBy | None:
        return lease.ended_by or (EndedBy.EXPIRED if lease.expires_at <= self.now else None)

    def live_lease(self, user: ModelUser) -> ModelLease | None:
        lease = self.leases[user.lease] if user.lease else None
        return lease if lease and self.ended_by(lease) is None else None

    def state(self, user: ModelUser) -> UserState:
        if user.quarantined:
            return UserState.QUARANTINED
        if self.live_lease(user):
            return UserState.LEASED
        return UserState.RESTING if user.available_at > self.now else UserState.FREE

    def counts(self, users: Iterable[ModelUser]) -> PoolCounts:
        states = [(self.state(user), user.available_at - self.now) for user in users]
        number = {state.value: sum(each is state for each, _ in states) for state in UserState}
        busy = [due for state, due in states if state in {UserState.LEASED, UserState.RESTING}]
        return PoolCounts(total=len(states), **number, next_free_in=min(busy, default=None))

    def pools(self) -> dict[Pool, PoolCounts]:
        of_pool = {pool: self.members(pool) for pool in {user.pool for user in self.users.values()}}
        return {pool: self.counts(self.users[each] for each in members) for pool, members in of_pool.items()}

    def members(self, pool: Pool, labels: Iterable[tuple[str, str]] = ()) -> list[UUID]:
        chosen = set(labels)
        return [
            key for key, user in self.users.items() if user.pool == pool and chosen <= user.labels.items()
        ]

    # Hand-outs

    def look_up(self, wanted: Wanted) -> ModelLease | list[UUID]:
        """The lease that a retry gets again, or the users of a new one."""
        if isinstance(wanted.what, Pool) and wanted.what.project_id not in self.projects:
            raise errors.NoSuchProjectError
        for lease in self.leases.values():
            if wanted.key and (lease.wanted.principal, lease.wanted.key) == (wanted.principal, wanted.key):
                if lease.wanted != wanted:
                    raise errors.IdempotencyKeyReusedError
                if self.ended_by(lease):
                    raise errors.IdempotencyKeyEndedError
                return lease
        return (
            self._from_pool(wanted, wanted.what) if isinstance(wanted.what, Pool) else self._one(wanted.what)
        )

    def _from_pool(self, wanted: Wanted, pool: Pool) -> list[UUID]:
        members = self.members(pool, wanted.labels)
        free = [each for each in members if self.state(self.users[each]) is UserState.FREE]
        if not members:
            raise errors.NoSuchPoolError
        if len(members) < wanted.count:
            raise errors.PoolTooSmallError(total=len(members))
        if len(free) < wanted.count:
            counts = self.counts(self.users[each] for each in members)
            numbers = {name: getattr(counts, name) for name in ("total", "leased", "resting", "quarantined")}
            raise errors.PoolExhaustedError(**numbers, next_free_in=counts.next_free_in)
        hand = self.hands.get(pool)
        if hand is None:
            return free  # where the first round starts is left to chance
        return sorted(free, key=lambda each: (each <= hand, each))[: wanted.count]

    def _one(self, user_id: UUID) -> list[UUID]:
        user = self._user(user_id)
        if user.quarantined:
            raise errors.UserQuarantinedError
        if self.state(user) is not UserState.FREE:
            raise self._busy(user)
        return [user_id]

    def hand_out(self, wanted: Wanted, lease_id: UUID, users: list[UUID]) -> ModelLease:
        pool = self.users[users[0]].pool
        policy = self.projects[pool.project_id]
        ttl = min(wanted.ttl or policy.default_ttl, policy.max_ttl, policy.max_hold)
        lease = ModelLease(wanted, pool, users, self.now, self.now + ttl, self.now + policy.max_hold, ttl)
        self.leases[lease_id] = lease
        if isinstance(wanted.what, Pool):
            hand = self.hands.get(pool)
            self.hands[pool] = max(users, key=lambda each: (hand is not None and each <= hand, each))
        for each in users:
            self.users[each].lease = lease_id
            self.users[each].available_at = lease.expires_at + policy.lock_delay
        return lease

    # The life of a lease

    def renew(self, principal: str, lease_id: UUID, ttl: int | None) -> ModelLease:
        lease = self.held(principal, lease_id)
        if self.ended_by(lease):
            raise errors.LeaseLapsedError
        policy = self.projects[lease.pool.project_id]
        lease.ttl = min(ttl or lease.ttl, policy.max_ttl)
        lease.expires_at = max(lease.expires_at, min(self.now + lease.ttl, lease.hold_until))
        for each in lease.users:
            self.users[each].available_at = lease.expires_at + policy.lock_delay
        return lease

    def release(self, principal: str, lease_id: UUID) -> ModelLease:
        lease = self.held(principal, lease_id)
        match self.ended_by(lease):
            case EndedBy.EXPIRED | EndedBy.FORCED:
                raise errors.LeaseLapsedError
            case None:
                self._end(lease, EndedBy.RELEASED, rest=self.projects[lease.pool.project_id].cooldown)
        return lease

    def release_lock(self, principal: str, user_id: UUID, lease_id: UUID | None) -> None:
        if lease_id:
            lease = self.held(principal, lease_id)
            if user_id not in self.shown(lease):
                raise errors.NoSuchLeaseError
        else:
            live = self.live_lease(self._user(user_id))
            if live is None:
                return
            if live.wanted.principal != principal:
                raise errors.NotTheHolderError
            if not live.is_lock and len(live.users) == 1:
                raise errors.LeaseIdRequiredError
            lease = live
        if len(self.shown(lease)) > 1:
            raise errors.UseReleaseLeaseError
        self.release(principal, next(key for key, each in self.leases.items() if each is lease))

    def force_release(self, lease_id: UUID) -> ModelLease:
        lease = self.leases[lease_id]
        if self.ended_by(lease) is None:
            self._end(lease, EndedBy.FORCED, rest=self.projects[lease.pool.project_id].lock_delay)
        return lease

    def held(self, principal: str, lease_id: UUID) -> ModelLease:
        if self.leases[lease_id].wanted.principal != principal:
            raise errors.NotTheHolderError
        return self.leases[lease_id]

    def shown(self, lease: ModelLease) -> list[UUID]:
        """Its users, without those that were deleted since."""
        return sorted(set(lease.users) & self.users.keys())

    def _end(self, lease: ModelLease, how: EndedBy, *, rest: int) -> None:
        lease.ended_by = how
        for each in lease.users:
            self.users[each].available_at = self.now + rest

    # The stock

    def new_user(self, login: str, pool: Pool) -> None:
        """Whether it may be created; `users` is given it when its id is known."""
        if pool.project_id not in self.projects:
            raise errors.NoSuchProjectError
        self._check_login(login, pool, among=self.users.values())

    def update_user(self, user_id: UUID, changes: UserChanges) -> None:
        user = self._user(user_id)
        moved = Pool(
            changes.project_id or user.pool.project_id,
            changes.env or user.pool.env,
            changes.domain or user.pool.domain,
        )
        if moved != user.pool and self.live_lease(user):
            raise self._busy(user)
        if moved.project_id not in self.projects:
            raise errors.NoSuchProjectError
        login = changes.login or user.login
        self._check_login(login, moved, among=(each for each in self.users.values() if each is not user))
        user.login, user.password, user.pool = login, changes.password or user.password, moved
        labels = {**user.labels, **changes.labels}
        user.labels = {name: value for name, value in labels.items() if value is not None}
        if changes.status:
            user.quarantined = changes.status is UserStatus.QUARANTINED

    def delete_user(self, user_id: UUID) -> None:
        user = self._user(user_id)
        if self.live_lease(user):
            raise self._busy(user)
        del self.users[user_id]

    def update_project(self, project_id: UUID, policy: dict[str, int]) -> None:
        if project_id not in self.projects:
            raise errors.NoSuchProjectError
        self.projects[project_id] = replace(self.projects[project_id], **policy)

    def delete_project(self, project_id: UUID) -> None:
        if project_id not in self.projects:
            raise errors.NoSuchProjectError
        if any(user.pool.project_id == project_id for user in self.users.values()):
            raise errors.ProjectInUseError
        del self.projects[project_id]

    def _user(self, user_id: UUID) -> ModelUser:
        if user_id not in self.users:
            raise errors.NoSuchUserError
        return self.users[user_id]

    def _busy(self, user: ModelUser) -> errors.UserBusyError:
        return errors.UserBusyError(expires_in=max(user.available_at - self.now, 0))

    @staticmethod
    def _check_login(login: str, pool: Pool, among: Iterable[ModelUser]) -> None:
        taken = {(user.pool.project_id, user.pool.env, user.login.lower()) for user in among}
        if (pool.project_id, pool.env, login.lower()) in taken:
            raise errors.UserExistsError
