"""The rules of a lease in plain Python, to compare the farm with: one caller, a clock that is moved by hand.

Each operation changes the model and returns the answer that the farm must give, or raises the error that the
farm must raise. The farm makes the ids: `look_up` says which users are next, `hand_out` is told their lease.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from botfarm import errors
from botfarm.domain.leases import Due, EndedBy, Outcome, Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserState, UserStatus
from support import model_health
from support.model_stock import ModelStock
from support.model_users import ModelLease, ModelUser, Said, Wanted

UNCLAIMED_TTL = 30
OK = Said()
LOST = Said(outcome=None, is_lost=True)
_REFUSALS = {
    UserState.DIRTY: errors.UserDirtyError,
    UserState.QUARANTINED: errors.UserQuarantinedError,
    UserState.RETIRED: errors.UserRetiredError,
}


@dataclass
class Model(ModelStock):
    hands: dict[tuple[Pool, Purpose], UUID] = field(default_factory=dict)
    """Who was handed out last in each pool: next is who comes after."""

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
        return self._alone(wanted.what, wanted.purpose)

    def _alone(self, user_id: UUID, purpose: Purpose) -> list[UUID]:
        user = self._user(user_id)
        at = self.at(user)
        if purpose is Purpose.HOLD:
            rests = at.status is UserStatus.ACTIVE and user.available_at > self.now
            if at.status is UserStatus.RETIRED:
                raise errors.UserRetiredError
            if at.live_lease or rests:
                raise self._busy(user)
        elif at.state is not UserState.FREE:
            refusal = _REFUSALS.get(at.state)
            raise refusal() if refusal else self._busy(user)
        return [user_id]

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
        counts = self.counts(members)
        free = [each for each in members if self._fits(self.users[each], wanted.purpose)]
        if len(free) < wanted.count:
            if not counts.total:
                raise errors.NoSuchPoolError
            if counts.total < wanted.count:
                raise errors.PoolTooSmallError(total=counts.total)
            names = ("total", "leased", "resting", "dirty", "quarantined", "next_free_in")
            told = {name: getattr(counts, name) for name in names}
            raise errors.PoolExhaustedError(
                **{**told, **({"next_free_in": None} if wanted.purpose is Purpose.CHORE else {})}
            )
        hand = self.hands.get((pool, wanted.purpose))
        # Where the first round starts is left to chance; from then on it goes on where it stopped.
        return sorted(free, key=lambda each: (each <= hand, each))[: wanted.count] if hand else free

    def _fits(self, user: ModelUser, purpose: Purpose) -> bool:
        at = self.at(user)
        return at.waits_for_keeper if purpose is Purpose.CHORE else at.state is UserState.FREE

    def due(self, wanted: Wanted, users: Iterable[UUID]) -> dict[UUID, tuple[Due, ...]]:
        """What a keeper that gets these users now is to do."""
        is_chore = wanted.purpose is Purpose.CHORE
        return {each: self.at(self.users[each]).due if is_chore else () for each in users}

    def hand_out(self, wanted: Wanted, lease_id: UUID, users: list[UUID]) -> ModelLease:
        pool = self.users[users[0]].pool
        policy = self.projects[pool.project_id]
        is_hold = wanted.purpose is Purpose.HOLD
        ttl = min(
            wanted.ttl or (policy.max_hold if is_hold else policy.default_ttl), self._max_ttl(wanted, pool)
        )
        ttl = min(ttl, policy.max_hold)
        due = self.due(wanted, users)
        lease = ModelLease(wanted, pool, users, self.now, 0, self.now + policy.max_hold, ttl, due)
        self.leases[lease_id] = lease
        hand = self.hands.get((pool, wanted.purpose))
        if isinstance(wanted.what, Pool) and (
            hand or len(users) == 1
        ):  # a first batch hides where it started
            chosen = max(users, key=lambda each: (hand is not None and each <= hand, each))
            self.hands[pool, wanted.purpose] = chosen
        for each in users:
            user = self.users[each]
            model_health.settle_expired(self.at(user))
            user.lease, user.settled = lease, False
        self._end_at(lease, self.now + ttl)
        return lease

    def _max_ttl(self, wanted: Wanted, pool: Pool) -> int:
        policy = self.projects[pool.project_id]
        return policy.max_hold if wanted.purpose is Purpose.HOLD else policy.max_ttl

    def hang_up(self, lease: ModelLease) -> None:
        """The caller was gone before it had its new lease."""
        if lease.wanted.key:
            self._end_at(lease, min(lease.expires_at, self.now + UNCLAIMED_TTL))
        else:
            self._end(lease, EndedBy.RELEASED, {}, rest=None, of_all=Said(outcome=None))

    def renew(self, principal: str, lease_id: UUID, ttl: int | None) -> ModelLease:
        lease = self._held(principal, lease_id)
        if self.ended_by(lease):
            raise errors.LeaseLapsedError
        left = max(1, math.ceil(lease.hold_until - self.now))
        lease.ttl = min(ttl or lease.ttl, self._max_ttl(lease.wanted, lease.pool), left)
        self._end_at(lease, max(lease.expires_at, min(self.now + lease.ttl, lease.hold_until)))
        return lease

    def release(
        self, principal: str, lease_id: UUID, said: Said = OK, apart: Mapping[UUID, Said] = {}
    ) -> ModelLease:
        lease = self._held(principal, lease_id)
        if self.ended_by(lease) in {EndedBy.EXPIRED, EndedBy.FORCED}:
            raise errors.LeaseLapsedError
        if not lease.ended_by:
            self._end(
                lease,
                EndedBy.RELEASED,
                apart,
                rest=self.projects[lease.pool.project_id].cooldown,
                of_all=said,
            )
            if apart or said.outcome is Outcome.DIRTY or model_health.is_failure(said):
                reasons = {each: apart.get(each, said).reason for each in self.shown(lease)}
                self._judge(lease.pool, reasons)
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
            rest = self.projects[lease.pool.project_id].lock_delay
            self._end(lease, EndedBy.FORCED, {}, rest=rest, of_all=LOST)
            self._judge(lease.pool, dict.fromkeys(self.shown(lease)))
        return lease

    def reap(self) -> int:
        """Stores what time has ended. Returns how many leases."""
        expired = [each for each in self.leases.values() if not each.ended_by and self.ended_by(each)]
        for lease in expired:
            lease.ended_by = EndedBy.EXPIRED
            for each in self.shown(lease):
                user = self.users[each]
                if user.lease is lease:
                    model_health.leave(self.at(user), lease, LOST, ())
        for pool in {lease.pool for lease in expired}:
            judged = [each for each in expired if each.pool == pool and self._is_judged(each)]
            self._judge(pool, {each: None for lease in judged for each in self.shown(lease)})
        return len(expired)

    def _is_judged(self, lease: ModelLease) -> bool:
        policy = self.projects.get(lease.pool.project_id)
        return lease.is_chore or bool(policy and policy.count_expired)

    def _judge(self, pool: Pool, reasons: Mapping[UUID, Any]) -> None:
        members = {each: self.users[each] for each in self.members(pool)}
        if pool.project_id in self.projects:
            model_health.quarantine_by_policy(reasons, members, self.projects[pool.project_id], self.now)

    def write_back(self, principal: str, lease_id: UUID, user_id: UUID, password: str) -> ModelUser:
        user = self._user_of(principal, lease_id, user_id)
        user.password = password
        model_health.trust_again(user)
        return user

    def start_rotation(self, principal: str, lease_id: UUID, user_id: UUID, password: str) -> str:
        user = self._user_of(principal, lease_id, user_id)
        if user.pending not in {None, password}:
            raise errors.RotationPendingError
        user.pending = password
        if user.status is UserStatus.ACTIVE:
            user.status, user.by_policy = UserStatus.DIRTY, True
        return password

    def confirm_rotation(self, principal: str, lease_id: UUID, user_id: UUID) -> ModelUser:
        user = self._user_of(principal, lease_id, user_id)
        if user.pending is not None:
            user.password, user.rotated_at, user.must_rotate = user.pending, self.now, False
            model_health.trust_again(user)
        elif user.rotated_at is None or user.rotated_at < self.leases[lease_id].acquired_at:
            raise errors.NoRotationError
        return user

    def _user_of(self, principal: str, lease_id: UUID, user_id: UUID) -> ModelUser:
        lease = self._held(principal, lease_id)
        if user_id not in self.shown(lease):
            raise errors.NoSuchUserError
        if self.ended_by(lease):
            raise errors.LeaseLapsedError
        return self.users[user_id]

    def _held(self, principal: str, lease_id: UUID) -> ModelLease:
        if self.leases[lease_id].wanted.principal != principal:
            raise errors.NotTheHolderError
        return self.leases[lease_id]

    def _end_at(self, lease: ModelLease, expires_at: float) -> None:
        lease.expires_at = expires_at
        policy = self.projects[lease.pool.project_id]
        for each in lease.users:
            back = expires_at + policy.lock_delay
            self.users[each].available_at = max(back, lease.acquired_at + policy.login_gap)

    def _end(
        self, lease: ModelLease, how: EndedBy, apart: Mapping[UUID, Said], *, rest: int | None, of_all: Said
    ) -> None:
        """Without a rest nobody has used the lease."""
        lease.ended_by = how
        policy = self.projects[lease.pool.project_id]
        for each in lease.users:
            user = self.users[each]
            user.available_at = self.now
            if rest is not None:
                user.available_at = max(self.now + rest, lease.acquired_at + policy.login_gap)
            model_health.leave(self.at(user), lease, apart.get(each, of_all), lease.due[each])
