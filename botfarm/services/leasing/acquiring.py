"""Handing out users: to whom, for how long, and what a caller learns who gets none."""

import asyncio
import time
from functools import partial
from uuid import UUID

from botfarm import metrics
from botfarm.crypto.credentials import KeyRing
from botfarm.db.leasing import acquire_user_queries, lease_queries
from botfarm.db.leasing.acquire_user_queries import LeaseTerms
from botfarm.db.leasing.lease_queries import Rest
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_queries
from botfarm.domain.access import Principal
from botfarm.domain.leases import Lease, Outcome
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.users import User, UserState
from botfarm.domain.waiting import WaitingRequest
from botfarm.errors import (
    BotfarmError,
    CallerGoneError,
    KeyMissingError,
    NoSuchPoolError,
    NoSuchUserError,
    PoolExhaustedError,
    PoolTooSmallError,
    QuotaExceededError,
    UserQuarantinedError,
)
from botfarm.services.granting.grants import Grant, PoolGrants, Turn, replay
from botfarm.services.granting.quotas import hold_to_quota
from botfarm.services.leasing.request_fingerprint import PoolRequest, RequestedTerms, lease_terms
from botfarm.services.shared.caller_connection import Lifeline
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.notifier import Notifier
from botfarm.services.shared.shutdown import Turns
from botfarm.services.stock.exhausted import exhausted
from botfarm.services.stock.pool_counting import sorted_labels
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.user_credentials import readable_lease
from botfarm.services.stock.users import busy
from botfarm.services.waiting.waiting_room import WaitingRoom

# A user that is free but locked by a statement under way is tried again; such statements take milliseconds.
LOCK_TRIES, LOCK_PAUSE = 5, 0.02

# How long a lease lives whose caller hung up before its answer, and may come back with its key; seconds.
UNCLAIMED_TTL = 30.0


class Acquiring:
    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        projects: Projects,
        *,
        grants: PoolGrants,
        waiting_room: WaitingRoom[Grant],
        notifier: Notifier,
        turns: Turns,
        clock: DatabaseClock,
        max_wait: float,
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._projects = projects
        self._grants = grants
        self._waiting_room = waiting_room
        self._notifier = notifier
        self._turns = turns
        self._clock = clock
        self._max_wait = max_wait

    async def acquire_lease(
        self,
        principal: Principal,
        wanted: PoolRequest,
        requested: RequestedTerms,
        *,
        lifeline: Lifeline,
    ) -> Grant:
        """Raises NoSuchProjectError, NoSuchPoolError, PoolTooSmallError, PoolExhaustedError and the key's errors."""
        project = await self._projects.look_up(principal.scope, wanted.project)
        pool = Pool(project.id, wanted.env, wanted.domain)
        if not principal.scope.has_env(wanted.env):
            raise NoSuchPoolError
        asked_for = partial(wanted.asked_for, project.id)
        terms = lease_terms(principal, requested, operation="acquire_lease", asked_for=asked_for)
        try:
            grant, since = await self._take_or_wait(principal, pool, wanted, terms, lifeline)
            return await self._hand_over(grant, terms, since, lifeline)
        except BotfarmError as error:
            _count(project.name, pool, _result_of(error, waited=wanted.wait_seconds > 0))
            raise

    async def acquire_lock(
        self, principal: Principal, user_id: UUID, requested: RequestedTerms, *, lifeline: Lifeline
    ) -> Grant:
        """Raises NoSuchUserError, UserBusyError, UserQuarantinedError, QuotaExceededError and the key's errors."""
        started = time.monotonic()
        terms = lease_terms(
            principal, requested, operation="acquire_lock", asked_for=lambda: {"user_id": user_id}
        )
        tries = LOCK_TRIES
        while True:
            attempt = partial(self._try_user, principal, user_id, terms)
            outcome = await self._turns.take(attempt, deadline=started)
            if isinstance(outcome, Grant):
                return await self._hand_over(outcome, terms, started, lifeline)
            tries -= 1
            if outcome.state is not UserState.FREE or tries == 0:
                await self._count_refusal(principal, outcome.pool)
                raise _refusal(outcome)
            await asyncio.sleep(LOCK_PAUSE)

    async def _try_user(self, principal: Principal, user_id: UUID, terms: LeaseTerms) -> Grant | User:
        is_one_statement = principal.max_leases is None and terms.idempotency_key is None
        async with (
            self._database.autocommit() if is_one_statement else self._database.transaction() as session
        ):
            await hold_to_quota(session, principal, terms, count=1)
            lease = await acquire_user_queries.acquire_user(
                session, user_id, principal.scope, terms=terms, latest=self._clock.latest()
            )
            grant = Grant(lease) if lease else await replay(session, principal, terms)
            user = None if grant else await user_queries.get_user(session, user_id, principal.scope)
        outcome = grant or user
        if outcome is None:
            raise NoSuchUserError
        return outcome

    async def _take_or_wait(
        self, principal: Principal, pool: Pool, wanted: PoolRequest, terms: LeaseTerms, lifeline: Lifeline
    ) -> tuple[Grant, float]:
        """With the moment since when it had been asked for, by the monotonic clock."""
        started = time.monotonic()
        labels, seconds = sorted_labels(wanted.labels), min(wanted.wait_seconds, self._max_wait)
        request = WaitingRequest(
            pool=pool,
            principal=principal.name,
            labels=wanted.labels,
            count=wanted.count,
            priority=wanted.priority,
            owner=terms.owner,
            idempotency_key=terms.idempotency_key,
            fingerprint=terms.fingerprint,
            payload=Turn(principal, labels, terms, lifeline),
        )
        # Behind others who wait for the same it would get nobody: it goes to their line at once. Except with a quota,
        # of which it is to hear before it waits.
        if not (
            seconds > 0 and principal.max_leases is None and self._waiting_room.is_behind_others(request)
        ):
            outcome = await self._grants.take(
                principal,
                pool,
                labels,
                wanted.count,
                terms,
                will_wait=seconds > 0,
                deadline=started + seconds,
            )
            if isinstance(outcome, Grant):
                return outcome, started
            _check_that_it_is_worth_waiting(outcome, wanted.count)
            if seconds <= 0:
                raise exhausted(outcome, waited=time.monotonic() - started)
        return await self._waiting_room.wait(
            request, started=started, wait_seconds=seconds, gone=lifeline.until_gone()
        )

    async def _hand_over(self, grant: Grant, terms: LeaseTerms, since: float, lifeline: Lifeline) -> Grant:
        lease = grant.lease
        try:
            readable = readable_lease(lease, self._key_ring)
        except KeyMissingError:
            if not grant.replayed:
                # A retry may get it from a process that has the encryption key.
                await self._abandon(lease, terms, "the process that took it lacks the encryption key")
            raise
        except Exception:  # whatever it is, the caller will not learn which users it holds
            if not grant.replayed:
                # With a rest, so that the next request gets another one.
                await self._take_back(
                    lease, Outcome.BROKEN, "the stored credentials cannot be read", "lock_delay"
                )
            raise
        if not grant.replayed and await lifeline.has_gone():
            await self._abandon(lease, terms, "the caller was gone before its answer")
            raise CallerGoneError
        _count(lease.project_name, lease.pool, "replayed" if grant.replayed else "granted")
        if not grant.replayed:
            labels = metrics.pool_labels(lease.project_name, lease.pool.env, lease.pool.domain)
            metrics.acquire_wait_seconds.labels(*labels).observe(time.monotonic() - since)
        return Grant(readable, grant.replayed)

    async def _abandon(self, lease: Lease, terms: LeaseTerms, note: str) -> None:
        """The caller has no answer after the hand-out: nobody holds the lease, unless there is a key to ask for it again."""
        if terms.idempotency_key is None:
            await self._take_back(lease, None, note, "none")
            return
        async with self._database.autocommit() as session:
            await lease_queries.cut_short(session, lease, seconds=UNCLAIMED_TTL)

    async def _take_back(self, lease: Lease, outcome: Outcome | None, note: str, rest: Rest) -> None:
        async with self._database.autocommit() as session:
            release = lease_queries.Release(lease.id, lease.principal, outcome, note, rest)
            ended = await lease_queries.release(session, [release])
        for each in ended.values():
            self._notifier.freed(each.pool.project_id)
            metrics.count_released_lease(each)

    async def _count_refusal(self, principal: Principal, pool: Pool) -> None:
        project = await self._projects.look_up(principal.scope, pool.project_id)
        _count(project.name, pool, "exhausted")


def _check_that_it_is_worth_waiting(counts: PoolCounts, count: int) -> None:
    if counts.total == 0:
        raise NoSuchPoolError
    if counts.total < count:
        raise PoolTooSmallError(total=counts.total)


def _refusal(user: User) -> BotfarmError:
    if user.state is UserState.QUARANTINED:
        return UserQuarantinedError()
    return busy(user)


def _result_of(error: BotfarmError, *, waited: bool) -> str:
    match error:
        case CallerGoneError():
            return "gone"
        case QuotaExceededError():
            return "quota"
        case PoolExhaustedError():
            return "timeout" if waited else "exhausted"
        case _:
            return "error"


def _count(project_name: str, pool: Pool, result: str) -> None:
    metrics.acquire_total.labels(*metrics.pool_labels(project_name, pool.env, pool.domain), result).inc()
