"""Users of a pool for those who ask: many requests in one statement, and what becomes of one that found too few."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.access import Principal
from botfarm.db import acquire_queries, batch_queries, lease_queries
from botfarm.db.acquire_queries import LeaseTerms, hand_after
from botfarm.db.batch_queries import WantedLease
from botfarm.db.engine import Database
from botfarm.domain import Lease, Pool, PoolCounts
from botfarm.errors import IdempotencyKeyEndedError, IdempotencyKeyReusedError, QuotaExceededError
from botfarm.services.coalescing import Coalescers
from botfarm.services.leases import record_of_lease
from botfarm.services.turns import Turns

Labels = tuple[tuple[str, str], ...]
"""Sorted, so that equal ones are one group."""
Group = tuple[Pool, Labels]


@dataclass(frozen=True, slots=True)
class Grant:
    lease: Lease
    replayed: bool = False


class PoolGrants:
    def __init__(self, database: Database, turns: Turns, *, max_batch: int) -> None:
        self._database = database
        self._turns = turns
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
        deadline: float,
    ) -> Grant | PoolCounts:
        """A lease, or how the users that match stand. The deadline is of the monotonic clock.

        Raises QuotaExceededError, the key's errors, and ConnectionsBusyError.
        """
        wanted = WantedLease(uuid4(), count, terms)
        if principal.max_leases is None:
            lease = await self._batches.submit((pool, labels), wanted)
            if lease is not None:
                return Grant(lease)
        alone = partial(self._take_alone, principal, pool, labels, wanted)
        return await self._turns.take(alone, deadline=deadline)

    async def _take_batch(self, group: Group, wanted: Sequence[WantedLease]) -> list[Lease | None]:
        pool, labels = group
        async with self._database.autocommit() as session:
            leases = await self._acquire(session, pool, labels, wanted)
        return [leases.get(each.lease_id) for each in wanted]

    async def _take_alone(
        self, principal: Principal, pool: Pool, labels: Labels, wanted: WantedLease
    ) -> Grant | PoolCounts:
        """For a request that found too few, and for one that a quota keeps out of the batches."""
        terms = wanted.terms
        async with self.session(principal, terms, count=wanted.count) as session:
            granted = await self._acquire(session, pool, labels, [wanted]) if principal.max_leases else {}
            grant = _new(granted) or await replay(session, principal, terms)
            if grant:
                return grant
            counts = await acquire_queries.count_pool(session, pool, labels=dict(labels))
        if counts.free < wanted.count:
            return counts
        # Enough are free: statements under way held some of them while this one looked. Two batches can so deny each
        # other the last users; the second try of each waits for its turn, and the last one to have it is alone.
        async with self.session(principal, terms, count=wanted.count, in_transaction=True) as session:
            await acquire_queries.lock_pool(session, pool)
            granted = await self._acquire(session, pool, labels, [wanted])
            grant = _new(granted) or await replay(session, principal, terms)
        return grant or counts

    async def _acquire(
        self, session: AsyncSession, pool: Pool, labels: Labels, wanted: Sequence[WantedLease]
    ) -> dict[UUID, Lease]:
        hand = self._hands.get(pool) or hand_after(uuid4())
        leases = await batch_queries.acquire_batch(session, pool, wanted, labels=dict(labels), hand=hand)
        ids = [user.id for lease in leases.values() for user in lease.users]
        if ids:
            behind = [user_id for user_id in ids if user_id < hand]  # taken after the hand went past the end
            self._hands[pool] = hand_after(max(behind or ids))
        return leases

    @asynccontextmanager
    async def session(
        self, principal: Principal, terms: LeaseTerms, *, count: int, in_transaction: bool = False
    ) -> AsyncIterator[AsyncSession]:
        """A session in which the principal may take so many users: only who has a quota pays for it.

        Counting and taking are one transaction under a lock of the principal, so that two requests at once cannot both
        take the last place. Raises QuotaExceededError, unless the request is a retry of one that was granted.
        """
        if principal.max_leases is None and not in_transaction:
            async with self._database.autocommit() as session:
                yield session
            return
        async with self._database.transaction() as session:
            if principal.max_leases is not None:
                await acquire_queries.lock_principal(session, principal.name)
                held = await acquire_queries.count_held(session, principal.name)
                if held + count > principal.max_leases and not await _lease_of(session, terms):
                    raise QuotaExceededError(held=held, count=count, max_leases=principal.max_leases)
            yield session


async def replay(session: AsyncSession, principal: Principal, terms: LeaseTerms) -> Grant | None:
    """The lease that was taken under the same key before, if there is one and it is live.

    Raises IdempotencyKeyReusedError, IdempotencyKeyEndedError.
    """
    lease = await _lease_of(session, terms)
    if lease is None:
        return None
    if lease.fingerprint != terms.fingerprint:
        raise IdempotencyKeyReusedError
    was_cut_short = lease.expires_at - lease.acquired_at < timedelta(seconds=lease.ttl_seconds)
    live = lease if lease.is_live else None
    if live and was_cut_short:
        live = await lease_queries.restore(session, lease.id, principal=lease.principal)
    if live is None:
        raise IdempotencyKeyEndedError
    await record_of_lease(session, principal, f"replay_{lease.operation}", live)
    return Grant(live, replayed=True)


async def _lease_of(session: AsyncSession, terms: LeaseTerms) -> Lease | None:
    if terms.idempotency_key is None:
        return None
    return await acquire_queries.lease_by_key(session, terms.principal, terms.idempotency_key)


def _count(wanted: WantedLease) -> int:
    return wanted.count


def _new(granted: dict[UUID, Lease]) -> Grant | None:
    return next(map(Grant, granted.values()), None)
