"""Users of a pool for those who ask: many requests in one statement, and what becomes of one that found too few."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.db.access import audit_queries
from botfarm.db.leasing import acquire_pool_queries, acquire_user_queries, lease_queries
from botfarm.db.leasing.acquire_pool_queries import WantedLease
from botfarm.db.leasing.acquire_user_queries import LeaseTerms, hand_after
from botfarm.db.postgres.driver import Executor
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal
from botfarm.domain.leases import Lease
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.waiting import WaitingRequest
from botfarm.errors import IdempotencyKeyEndedError, IdempotencyKeyReusedError
from botfarm.services.granting.quotas import hold_to_quota
from botfarm.services.shared.batching import Coalescers
from botfarm.services.shared.caller_connection import Lifeline
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.shutdown import Turns
from botfarm.services.stock.pool_counting import Labels, PoolCounting

Group = tuple[Pool, Labels, bool]
"""The last one: whether they waited."""


@dataclass(frozen=True, slots=True)
class Grant:
    lease: Lease
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request that waits is granted with, when its turn has come."""

    principal: Principal
    labels: Labels
    terms: LeaseTerms
    lifeline: Lifeline


class PoolGrants:
    def __init__(
        self,
        database: Database,
        counting: PoolCounting,
        clock: DatabaseClock,
        turns: Turns,
        *,
        replica_id: UUID,
        max_batch: int,
    ) -> None:
        self._database = database
        self._counting = counting
        self._clock = clock
        self._turns = turns
        self._replica_id = replica_id
        # Users of one batch: a larger statement is not faster for each of them, and makes the first ones wait.
        self._batches = Coalescers[Group, WantedLease, Lease | None](
            self._take_batch,
            max_batch=max_batch,
            weight=_count,
            observe=metrics.batch_size.labels("acquire").observe,
        )
        # Where the last hand-out of each pool stopped. Each process has its own: it spreads use, it decides nothing.
        self._hands: dict[Pool, UUID] = {}

    async def take(
        self,
        principal: Principal,
        pool: Pool,
        labels: Labels,
        count: int,
        terms: LeaseTerms,
        *,
        will_wait: bool,
        deadline: float,
    ) -> Grant | PoolCounts:
        """A lease, or how the users that match stand. The deadline is of the monotonic clock.

        Who will wait does not insist: others may have come before, and are on their way to the line.

        Raises QuotaExceededError, the key's errors, and ConnectionsBusyError.
        """
        wanted = WantedLease(uuid4(), count, terms)
        if principal.max_leases is None:
            lease = await self._batches.submit((pool, labels, False), wanted)
            if lease is not None:
                return Grant(lease)
            outcome = await self._otherwise(principal, pool, labels, terms)
            if isinstance(outcome, Grant) or will_wait or outcome.free < count or outcome.waiting > 0:
                return outcome
        alone = partial(self._take_alone, principal, pool, labels, wanted)
        return await self._turns.take(alone, deadline=deadline)

    async def take_turn(self, request: WaitingRequest, ticket_id: int) -> Grant | None:
        """For a request whose turn has come. None when too few users could be locked, or its ticket is gone.

        Raises QuotaExceededError, UnauthenticatedError, and the key's errors.
        """
        turn = request.payload
        assert isinstance(turn, Turn)  # noqa: S101  no other requests wait
        await turn.lifeline.check_welcome()
        principal, pool, labels, terms = turn.principal, request.pool, turn.labels, turn.terms
        wanted = WantedLease(uuid4(), request.count, terms, ticket_id)
        if principal.max_leases is None:
            lease = await self._batches.submit((pool, labels, True), wanted)
            if lease is not None:
                return Grant(lease)
            if terms.idempotency_key is None:
                return None
        async with self._database.transaction() as session:
            await hold_to_quota(session, principal, terms, count=request.count)
            if principal.max_leases is not None:
                granted = await self._acquire(session, pool, labels, [wanted])
                if granted:
                    return Grant(granted[wanted.lease_id])
            return await replay(session, principal, terms)

    async def _take_batch(self, group: Group, wanted: Sequence[WantedLease]) -> list[Lease | None]:
        pool, labels, _ = group
        async with self._database.direct() as executor:
            leases = await self._acquire(executor, pool, labels, wanted)
        return [leases.get(each.lease_id) for each in wanted]

    async def _otherwise(
        self, principal: Principal, pool: Pool, labels: Labels, terms: LeaseTerms
    ) -> Grant | PoolCounts:
        """What there is for who got no lease: that of the first try under the same key, or the pool's numbers."""
        if terms.idempotency_key is not None:
            async with self._database.transaction() as session:
                replayed = await replay(session, principal, terms)
            if replayed:
                return replayed
        return await self._counting.count(pool, labels)

    async def _take_alone(
        self, principal: Principal, pool: Pool, labels: Labels, wanted: WantedLease
    ) -> Grant | PoolCounts:
        """For a request that a quota keeps out of the batches, and for one that found too few although enough are free.

        Then statements under way held some of them while this one looked. Two batches can so deny each other the last
        users; under the pool's lock each of them has a turn in which it is alone.
        """
        async with self._database.transaction() as session:
            await hold_to_quota(session, principal, wanted.terms, count=wanted.count)
            await acquire_user_queries.lock_pool(session, pool)
            granted = await self._acquire(session, pool, labels, [wanted])
            if granted:
                return Grant(granted[wanted.lease_id])
            replayed = await replay(session, principal, wanted.terms)
            return replayed or await acquire_user_queries.count_pool(session, pool, labels=dict(labels))

    async def _acquire(
        self, executor: Executor, pool: Pool, labels: Labels, wanted: Sequence[WantedLease]
    ) -> dict[UUID, Lease]:
        hand = self._hands.get(pool) or hand_after(uuid4())
        leases = await acquire_pool_queries.acquire_batch(
            executor,
            pool,
            wanted,
            labels=dict(labels),
            hand=hand,
            replica=self._replica_id,
            latest=self._clock.latest(),
        )
        ids = [user.id for lease in leases.values() for user in lease.users]
        if ids:
            behind = [user_id for user_id in ids if user_id < hand]  # taken after the hand went past the end
            self._hands[pool] = hand_after(max(behind or ids))
        return leases


async def replay(session: AsyncSession, principal: Principal, terms: LeaseTerms) -> Grant | None:
    """The lease that was taken under the same key before, if there is one and it is live.

    Raises IdempotencyKeyReusedError, IdempotencyKeyEndedError.
    """
    if terms.idempotency_key is None:
        return None
    lease = await acquire_user_queries.lease_by_key(session, terms.principal, terms.idempotency_key)
    if lease is None:
        return None
    if lease.fingerprint != terms.fingerprint:
        raise IdempotencyKeyReusedError
    live = await lease_queries.restore(session, lease.id, principal=lease.principal)
    if live is None:
        raise IdempotencyKeyEndedError
    await audit_queries.record_of_lease(session, principal, f"replay_{lease.operation}", live)
    return Grant(live, replayed=True)


def _count(wanted: WantedLease) -> int:
    return wanted.count
