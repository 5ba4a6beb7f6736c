"""Grants users of a pool: to batches of requests, or to one request alone under the lock of the pool."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from operator import attrgetter
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.db.access import audit_queries
from botfarm.db.leasing import advisory_locks, lease_queries, lease_reading_queries, pool_grant_queries
from botfarm.db.leasing.pool_grant_queries import hand_after
from botfarm.db.postgres.driver import Executor
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import pool_queries
from botfarm.db.waiting import ticket_queries
from botfarm.domain.access import Principal
from botfarm.domain.leases import Grant, Lease, LeaseRequest, LeaseTerms, Purpose, WantedUsers
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.errors import IdempotencyKeyEndedError, IdempotencyKeyReusedError
from botfarm.services.access.credential_check import CredentialCheck
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.quotas import check_quota
from botfarm.services.shared.batching import GroupedBatcher
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.stock.pools import Pools

Kind = tuple[Pool, Purpose, WantedUsers]
"""Requests of one kind can be granted by one statement."""
IsItsTurn = Callable[[Executor, int], Awaitable[bool]]
"""Whether the ticket of this id may be granted, as the queue is at this moment."""


class Grants:
    def __init__(
        self,
        database: Database,
        pools: Pools,
        clock: DatabaseClock,
        limiter: AcquireLimiter,
        credentials: CredentialCheck,
        *,
        replica_id: UUID,
        max_batch: int,
    ) -> None:
        """`max_batch` is the most users that one statement grants, unless it grants one request."""
        self._database = database
        self._pools = pools
        self._clock = clock
        self._limiter = limiter
        self._credentials = credentials
        self._replica_id = replica_id
        self._observe = observe = metrics.batch_size.labels("acquire").observe
        self._requests = GroupedBatcher[Kind, LeaseRequest, Lease | None](
            self._grant_requests, max_batch=max_batch, weight=attrgetter("count"), observe=observe
        )
        self._tickets = GroupedBatcher[Kind, tuple[LeaseRequest, int], Lease | None](
            self._grant_tickets, max_batch=max_batch, weight=lambda waited: waited[0].count, observe=observe
        )
        # The user of each pool after which the last grant stopped. It spreads the use of the users and
        # decides nothing, so each process has its own.
        self._hands: dict[tuple[Pool, Purpose], UUID] = {}

    async def grant_now(
        self, request: LeaseRequest, *, will_wait: bool, deadline: float
    ) -> Grant | PoolCounts:
        """Grants a request that has no ticket, or returns the counts of the users that match.

        With `will_wait`, returns the counts instead of retrying under the pool's lock, because earlier
        requests may still be joining the queue. Without it, an earlier request under the same key waits no
        more, because its caller has posted again. The deadline (monotonic clock) is for a connection.
        Raises QuotaExceededError, IdempotencyKeyReusedError, IdempotencyKeyEndedError, ConnectionsBusyError.
        """
        if not request.principal.has_quota:
            lease = await self._requests.submit(_kind(request), request)
            if lease is not None:
                return Grant(lease)
            outcome = await self._replay_or_count(request, will_wait=will_wait)
            if isinstance(outcome, Grant) or will_wait or not _is_enough(outcome, request):
                return outcome
        alone = partial(self._grant_alone, request, will_wait=will_wait)
        return await self._limiter.run(alone, deadline=deadline)

    async def grant_ticket(
        self, request: LeaseRequest, ticket_id: int, *, is_its_turn: IsItsTurn
    ) -> Grant | None:
        """Grants a request that waited. None when too few users could be locked, or its ticket is gone.

        A request with a quota may have to wait for other requests of its principal, and then asks whether it is still
        its turn: the users that were free for it may be taken, and others be free for an earlier request.
        Raises QuotaExceededError, IdempotencyKeyReusedError, IdempotencyKeyEndedError, and
        UnauthenticatedError when the caller's token or session has ended during the wait.
        """
        principal = request.principal
        await self._credentials.check(principal)
        if not principal.has_quota:
            lease = await self._tickets.submit(_kind(request), (request, ticket_id))
            if lease is not None:
                return Grant(lease)
            if request.terms.idempotency_key is None:
                return None
        async with self._database.transaction() as session:
            if principal.has_quota:
                await _check_quota(session, request)
                if await is_its_turn(session, ticket_id):
                    (lease,) = await self._grant(session, [request], [ticket_id])
                    if lease is not None:
                        return Grant(lease)
            return await replay(session, principal, request.terms)

    async def grant_first(self, request: LeaseRequest, ticket_id: int) -> Grant | None:
        """As `grant_ticket`, only if no other ticket stands before this one. Not for a request with a quota.

        It neither waits for other grants nor looks for a lease under the request's key.
        """
        await self._credentials.check(request.principal)
        self._observe(1)
        async with self._database.direct() as executor:
            (lease,) = await self._grant(executor, [request], [ticket_id], if_first=True)
        return Grant(lease) if lease is not None else None

    async def _grant_requests(self, _: Kind, requests: Sequence[LeaseRequest]) -> list[Lease | None]:
        async with self._database.direct() as executor:
            return await self._grant(executor, requests, None)

    async def _grant_tickets(self, _: Kind, waited: Sequence[tuple[LeaseRequest, int]]) -> list[Lease | None]:
        requests, ticket_ids = [request for request, _ in waited], [ticket_id for _, ticket_id in waited]
        async with self._database.direct() as executor:
            return await self._grant(executor, requests, ticket_ids)

    async def _replay_or_count(self, request: LeaseRequest, *, will_wait: bool) -> Grant | PoolCounts:
        if request.terms.idempotency_key is not None:
            async with self._database.transaction() as session:
                replayed = await _replay(session, request, will_wait=will_wait)
            if replayed:
                return replayed
        return await self._pools.count(request)

    async def _grant_alone(self, request: LeaseRequest, *, will_wait: bool) -> Grant | PoolCounts:
        """For a request with a quota, and for a request that found too few users although enough are free.

        Other statements held some of the users then. Two batches can so deny each other the last users. Under
        the pool's lock one transaction after the other tries alone.
        """
        async with self._database.transaction() as session:
            await _check_quota(session, request)
            await advisory_locks.lock_pool(session, request.pool)
            (lease,) = await self._grant(session, [request], None)
            if lease is not None:
                return Grant(lease)
            replayed = await _replay(session, request, will_wait=will_wait)
            return replayed or await pool_queries.count_pool(session, request.pool, request.wanted)

    async def _grant(
        self,
        executor: Executor,
        requests: Sequence[LeaseRequest],
        tickets: Sequence[int] | None,
        *,
        if_first: bool = False,
    ) -> list[Lease | None]:
        queue = requests[0].queue
        hand = self._hands.get(queue) or hand_after(uuid4())
        leases = await pool_grant_queries.grant_from_pool(
            executor,
            requests,
            tickets=tickets,
            if_first=if_first,
            hand=hand,
            replica=self._replica_id,
            latest=self._clock.latest(),
        )
        ids = [user.id for lease in leases if lease for user in lease.users]
        if ids and requests[0].user_id is None:
            behind = [
                user_id for user_id in ids if user_id < hand
            ]  # granted after the hand went past the end
            self._hands[queue] = hand_after(max(behind or ids))
        return leases


async def replay(session: AsyncSession, principal: Principal, terms: LeaseTerms) -> Grant | None:
    """The live lease that an earlier request took under the same key. None when there was none.

    Raises IdempotencyKeyReusedError when that request asked for something else, IdempotencyKeyEndedError when
    the lease has ended.
    """
    if terms.idempotency_key is None:
        return None
    lease = await lease_reading_queries.lease_by_key(session, principal.name, terms.idempotency_key)
    if lease is None:
        return None
    if lease.fingerprint != terms.fingerprint:
        raise IdempotencyKeyReusedError
    live = await lease_queries.restore(session, lease.id, principal=lease.principal)
    if live is None:
        raise IdempotencyKeyEndedError
    await audit_queries.record_of_lease(session, principal, f"replay_{lease.operation}", live)
    return Grant(live, replayed=True)


async def _replay(session: AsyncSession, request: LeaseRequest, *, will_wait: bool) -> Grant | None:
    if request.terms.idempotency_key is not None and not will_wait:
        # First, because the ticket of the earlier request may be granted until then.
        await ticket_queries.end_wait(session, principal=request.principal.name, terms=request.terms)
    return await replay(session, request.principal, request.terms)


async def _check_quota(session: AsyncSession, request: LeaseRequest) -> None:
    await check_quota(
        session, request.principal, count=request.count, idempotency_key=request.terms.idempotency_key
    )


def _is_enough(counts: PoolCounts, request: LeaseRequest) -> bool:
    """Whether the users suffice, so that it was only their locks that were in the way."""
    if request.purpose is Purpose.CHORE:
        return counts.dirty >= request.count
    reserved = counts.waiting_for_one
    return counts.free - reserved >= request.count and counts.waiting == reserved


def _kind(request: LeaseRequest) -> Kind:
    return request.pool, request.purpose, request.wanted
