"""The life of a lease after its grant: renew, release, force, read."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks, lease_queries, lease_reading_queries, release_queries
from botfarm.db.leasing.lease_queries import Renewal
from botfarm.db.leasing.release_queries import Release
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_reading_queries
from botfarm.domain.access import Principal, Scope
from botfarm.domain.leases import EndedBy, Lease, LeaseFilter, LeaseOperation, Verdict
from botfarm.domain.paging import Page
from botfarm.domain.users import User
from botfarm.errors import (
    FieldError,
    InvalidRequestError,
    LeaseIdRequiredError,
    LeaseLapsedError,
    NoSuchLeaseError,
    NoSuchUserError,
    NotTheHolderError,
    UseReleaseLeaseError,
)
from botfarm.services.shared.batching import Batcher
from botfarm.services.shared.cursors import decode_bigints, encode_cursor
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.quarantining import Judgement, judge
from botfarm.services.stock.sealing import readable_lease

_OK = Verdict()


class Leases:
    def __init__(self, database: Database, key_ring: KeyRing, notifier: Notifier, *, max_batch: int) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier
        self._renewals = Batcher[Renewal, Lease | None](
            self._renew,
            max_batch=max_batch,
            key=_lease_id,
            observe=metrics.batch_size.labels("renew").observe,
        )
        self._releases = Batcher[Release, Lease | None](
            self._release,
            max_batch=max_batch,
            key=_lease_id,
            observe=metrics.batch_size.labels("release").observe,
        )

    async def renew(self, principal: Principal, lease_id: UUID, *, ttl_seconds: int | None) -> Lease:
        """Moves the end of the lease, by default by its own TTL.

        Raises LeaseLapsedError, NotTheHolderError, NoSuchLeaseError.
        """
        renewed = await self._renewals.submit(Renewal(lease_id, principal, ttl_seconds))
        if renewed is None:
            await self.held_before(principal, lease_id)
            metrics.renew_total.labels("lapsed").inc()
            raise LeaseLapsedError
        metrics.renew_total.labels("ok").inc()
        return readable_lease(renewed, self._key_ring)

    async def release(
        self,
        principal: Principal,
        lease_id: UUID,
        verdict: Verdict = _OK,
        of_users: Mapping[UUID, Verdict] = MappingProxyType({}),
    ) -> Lease:
        """Idempotent. `of_users` is what is said of single users, instead of the verdict on all.

        Raises LeaseLapsedError, NotTheHolderError, NoSuchLeaseError, and InvalidRequestError for a user that the
        lease does not have; then nothing is released.
        """
        release = Release(lease_id, principal.name, verdict, of_users)
        released = None
        if not of_users and not verdict.may_quarantine:
            released = await self._releases.submit(release)
        if released is None:
            # It may be a chore, because the batch leaves those out.
            released = await self._release_and_judge(principal, release)
        if released:
            metrics.count_released_lease(released)
            return released
        lease = await self.held_before(principal, lease_id)
        if lease.ended_by is not EndedBy.RELEASED:
            raise LeaseLapsedError
        return lease

    async def release_lock(self, principal: Principal, user_id: UUID, *, lease_id: UUID | None) -> User:
        """Releases the lease of the user, which must have this user only. Returns the user.

        Without a lease id it releases only a lease that the same principal took by `acquire_lock`, because
        all jobs of one CI share a token, and a stale job must not free the user of another job.
        Raises NoSuchUserError, NoSuchLeaseError, NotTheHolderError, LeaseIdRequiredError,
        UseReleaseLeaseError, LeaseLapsedError.
        """
        lease = await self._lease_of_user(principal, user_id, lease_id)
        if lease is not None:
            if len(lease.users) > 1:
                raise UseReleaseLeaseError
            await self.release(principal, lease.id)
        async with self._database.autocommit() as session:
            user = await user_reading_queries.get_user(session, user_id, principal.scope)
        if user is None:
            raise NoSuchUserError
        return user

    async def force_release(self, principal: Principal, lease_id: UUID, *, reason: str) -> Lease:
        """Ends the lease of any holder. A lease that has ended stays as it is. Raises NoSuchLeaseError."""
        lease = await self.look_up(principal.scope, lease_id)
        async with self._database.transaction() as session:
            await advisory_locks.lock_pool(session, lease.pool)
            forced = await release_queries.force_release(session, lease_id, principal.scope, reason=reason)
            if forced is not None:
                details = {"reason": reason, "holder": forced.principal}
                await audit_queries.record_of_lease(
                    session, principal, "force_release_lease", forced, details
                )
            judgement = await _judge(session, forced) if forced else None
        if forced is None:
            return await self.look_up(principal.scope, lease_id)
        if judgement:
            judgement.count()
        self._notifier.freed(forced.pool.project_id)
        metrics.count_released_lease(forced)
        return forced

    async def get(self, principal: Principal, lease_id: UUID) -> Lease:
        """The lease; for its holder, while it is live, with credentials, which the audit records.

        Raises NoSuchLeaseError.
        """
        async with self._database.transaction() as session:
            lease = await lease_reading_queries.get_lease(session, lease_id, principal.scope)
            if lease is None:
                raise NoSuchLeaseError
            if not lease.is_live or lease.principal != principal.name:
                return lease
            held = await lease_reading_queries.get_lease(
                session, lease_id, principal.scope, with_credentials=True
            )
            if held is None or not held.is_live:
                return lease
            await audit_queries.record_of_lease(session, principal, "get_lease", held)
        return readable_lease(held, self._key_ring)

    async def list(self, scope: Scope, chosen: LeaseFilter, *, cursor: str | None, limit: int) -> Page[Lease]:
        """One page of leases, the newest first, without credentials.

        Raises InvalidRequestError for a bad cursor.
        """
        before = decode_bigints(cursor, 1)[0] if cursor else None
        async with self._database.autocommit() as session:
            leases = await lease_reading_queries.list_leases(
                session, chosen, scope, before_fence=before, limit=limit + 1
            )
        more = len(leases) > limit
        page = tuple(leases[:limit])
        return Page(page, encode_cursor(page[-1].fence) if more else None)

    async def _lease_of_user(
        self, principal: Principal, user_id: UUID, lease_id: UUID | None
    ) -> Lease | None:
        """The lease that `release_lock` ends. None when the user is free."""
        if lease_id is not None:
            lease = await self.held_before(principal, lease_id)
            if user_id not in {user.id for user in lease.users}:
                raise NoSuchLeaseError
            return lease
        async with self._database.autocommit() as session:
            user = await user_reading_queries.get_user(session, user_id, principal.scope)
        if user is None:
            raise NoSuchUserError
        if user.locktime is None or user.lease_id is None:
            return None
        lease = await self.look_up(principal.scope, user.lease_id)
        if lease.principal != principal.name:
            raise NotTheHolderError
        if lease.operation is not LeaseOperation.ACQUIRE_LOCK and len(lease.users) == 1:
            raise LeaseIdRequiredError
        return lease

    async def _renew(self, wanted: Sequence[Renewal]) -> Sequence[Lease | None]:
        async with self._database.direct() as executor:
            renewed = await lease_queries.renew(executor, wanted)
        return [renewed.get(each.lease_id) for each in wanted]

    async def _release(self, wanted: Sequence[Release]) -> Sequence[Lease | None]:
        may_notify = self._notifier.take_turn()
        async with self._database.direct() as executor:
            released, notified = await release_queries.release(executor, wanted, notifies=may_notify)
        if may_notify and not notified:
            self._notifier.give_turn_back()
        for lease in released.values():
            if lease.pool.project_id not in notified:
                self._notifier.freed(lease.pool.project_id)
        return [released.get(each.lease_id) for each in wanted]

    async def _release_and_judge(self, principal: Principal, wanted: Release) -> Lease | None:
        """Releases, and quarantines the users that have failed too often, in one transaction.

        The lock of the pool comes first: under it no other quarantine takes the same share of the pool.
        """
        lease = await self.held_before(principal, wanted.lease_id)
        _check_users(lease, wanted.of_users)
        if not lease.is_live:
            return None
        async with self._database.transaction() as session:
            await advisory_locks.lock_pool(session, lease.pool)
            released = await release_queries.release_judged(session, wanted)
            if released is None:
                return None
            judgement = await _judge(session, released)
        judgement.count()
        self._notifier.freed(released.pool.project_id)
        return released

    async def look_up(self, scope: Scope, lease_id: UUID) -> Lease:
        """The lease without credentials. Raises NoSuchLeaseError."""
        async with self._database.autocommit() as session:
            lease = await lease_reading_queries.get_lease(session, lease_id, scope)
        if lease is None:
            raise NoSuchLeaseError
        return lease

    async def held_before(self, principal: Principal, lease_id: UUID) -> Lease:
        """The lease of the principal, live or ended. Raises NoSuchLeaseError, NotTheHolderError."""
        lease = await self.look_up(principal.scope, lease_id)
        if lease.principal != principal.name:
            raise NotTheHolderError
        return lease


def _check_users(lease: Lease, of_users: Collection[UUID]) -> None:
    """Raises InvalidRequestError for users that the lease does not have."""
    strangers = set(of_users) - {user.id for user in lease.users}
    wrong = [place for place, user_id in enumerate(of_users) if user_id in strangers]
    if wrong:
        errors = (FieldError(f"users.{place}.id", "unknown", "is no user of the lease") for place in wrong)
        raise InvalidRequestError(*errors)


async def _judge(session: AsyncSession, ended: Lease) -> Judgement:
    failed = {user.id: (ended.id, user.reason) for user in ended.users}
    return await judge(session, ended.pool, ended.project_name, failed)


def _lease_id(wanted: Renewal | Release) -> UUID:
    return wanted.lease_id
