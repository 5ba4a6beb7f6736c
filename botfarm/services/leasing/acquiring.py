"""The operations that take a lease: of users of a pool, at once or after a wait, or of one user by its id."""

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from uuid import UUID

from botfarm import metrics
from botfarm.crypto.key_ring import KeyRing
from botfarm.db.leasing import lease_queries, user_grant_queries
from botfarm.db.leasing.lease_queries import Rest
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_queries
from botfarm.domain.access import Principal
from botfarm.domain.leases import Grant, Lease, LeaseRequest, LeaseTerms, Outcome
from botfarm.domain.pools import Domain, Env, Pool, PoolCounts
from botfarm.domain.users import User, UserState
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
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.grants import Grants, replay
from botfarm.services.granting.quotas import check_quota
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.pools import pool_exhausted
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.sealing import readable_lease
from botfarm.services.stock.users import user_busy
from botfarm.services.waiting.waiting_room import WaitingRoom

# A free user that is locked by another statement is tried again, because such statements take milliseconds.
# Seconds.
LOCK_TRIES, LOCK_PAUSE = 5, 0.02

UNCLAIMED_TTL = 30.0
"""Seconds that a new lease lives whose caller disconnected before the answer, and may retry with its key."""


class Acquiring:
    def __init__(
        self,
        database: Database,
        key_ring: KeyRing,
        projects: Projects,
        *,
        grants: Grants,
        waiting_room: WaitingRoom,
        notifier: Notifier,
        limiter: AcquireLimiter,
        clock: DatabaseClock,
        max_wait: float,
    ) -> None:
        self._database = database
        self._key_ring = key_ring
        self._projects = projects
        self._grants = grants
        self._waiting_room = waiting_room
        self._notifier = notifier
        self._limiter = limiter
        self._clock = clock
        self._max_wait = max_wait

    async def acquire_lease(
        self,
        principal: Principal,
        *,
        project: UUID | str,
        env: Env,
        domain: Domain,
        labels: Mapping[str, str],
        count: int,
        priority: int,
        terms: LeaseTerms,
        wait_seconds: float,
        connection: CallerConnection,
    ) -> Grant:
        """Takes `count` users of a pool, all or nothing. The project is named by its id or its name.

        Raises NoSuchProjectError, NoSuchPoolError, PoolTooSmallError, PoolExhaustedError, QuotaExceededError,
        IdempotencyKeyReusedError, IdempotencyKeyEndedError, and what the waiting room raises.
        """
        found = await self._projects.look_up(principal.scope, project)
        pool = Pool(found.id, env, domain)
        if not principal.scope.has_env(env):
            raise NoSuchPoolError
        wanted = {"project": found.id, "env": env, "domain": domain, "labels": labels, "count": count}
        terms = _with_fingerprint(terms, "acquire_lease", wanted)
        request = LeaseRequest(principal, pool, labels, count, priority, terms)
        try:
            grant, since = await self._grant_or_wait(request, wait_seconds, connection)
            return await self._hand_over(grant, terms, since, connection)
        except BotfarmError as error:
            _count(found.name, pool, _result_of(error, waited=wait_seconds > 0))
            raise

    async def acquire_lock(
        self, principal: Principal, user_id: UUID, terms: LeaseTerms, *, connection: CallerConnection
    ) -> Grant:
        """Takes one user by its id.

        Raises NoSuchUserError, UserBusyError, UserQuarantinedError, QuotaExceededError,
        IdempotencyKeyReusedError, IdempotencyKeyEndedError.
        """
        started = time.monotonic()
        terms = _with_fingerprint(terms, "acquire_lock", {"user_id": user_id})
        tries = LOCK_TRIES
        while True:
            attempt = partial(self._try_user, principal, user_id, terms)
            outcome = await self._limiter.run(attempt, deadline=started)
            if isinstance(outcome, Grant):
                return await self._hand_over(outcome, terms, started, connection)
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
            await check_quota(session, principal, count=1, idempotency_key=terms.idempotency_key)
            lease = await user_grant_queries.grant_user(
                session, principal, user_id, terms, latest=self._clock.latest()
            )
            grant = Grant(lease) if lease else await replay(session, principal, terms)
            user = None if grant else await user_queries.get_user(session, user_id, principal.scope)
        outcome = grant or user
        if outcome is None:
            raise NoSuchUserError
        return outcome

    async def _grant_or_wait(
        self, request: LeaseRequest, wait_seconds: float, connection: CallerConnection
    ) -> tuple[Grant, float]:
        """Returns the grant, and the time since when it had been asked for, by the monotonic clock."""
        started = time.monotonic()
        seconds = min(wait_seconds, self._max_wait)
        has_quota = request.principal.max_leases is not None
        # Behind requests that wait for the same users a grant could only fail, so the request joins their
        # queue at once. With a quota it tries first, because an exceeded quota must be refused before the
        # wait.
        if seconds <= 0 or has_quota or not self._waiting_room.is_behind_others(request):
            outcome = await self._grants.grant_now(request, will_wait=seconds > 0, deadline=started + seconds)
            if isinstance(outcome, Grant):
                return outcome, started
            _check_that_it_is_worth_waiting(outcome, request.count)
            if seconds <= 0:
                raise pool_exhausted(outcome, waited=time.monotonic() - started)
        return await self._waiting_room.wait(request, connection, started=started, wait_seconds=seconds)

    async def _hand_over(
        self, grant: Grant, terms: LeaseTerms, since: float, connection: CallerConnection
    ) -> Grant:
        """The grant with readable credentials.

        Takes the lease back when they are not, or when the caller has disconnected.
        """
        lease = grant.lease
        try:
            readable = readable_lease(lease, self._key_ring)
        except KeyMissingError:
            if not grant.replayed:
                # A retry may reach a process that has the encryption key.
                await self._abandon(lease, terms, "the process that took it lacks the encryption key")
            raise
        except Exception:  # for any error: the caller gets no answer, and cannot release the lease
            if not grant.replayed:
                # The user rests, so that the next request gets another one.
                await self._take_back(
                    lease, Outcome.BROKEN, "the stored credentials cannot be read", "lock_delay"
                )
            raise
        if not grant.replayed and await connection.is_closed():
            await self._abandon(lease, terms, "the caller was gone before its answer")
            raise CallerGoneError
        _count(lease.project_name, lease.pool, "replayed" if grant.replayed else "granted")
        if not grant.replayed:
            labels = metrics.pool_labels(lease.project_name, lease.pool.env, lease.pool.domain)
            metrics.acquire_wait_seconds.labels(*labels).observe(time.monotonic() - since)
        return Grant(readable, grant.replayed)

    async def _abandon(self, lease: Lease, terms: LeaseTerms, note: str) -> None:
        """Ends a lease whose caller gets no answer.

        With a key the lease lives on for a moment, because a retry may come.
        """
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


def _with_fingerprint(terms: LeaseTerms, operation: str, wanted: Mapping[str, object]) -> LeaseTerms:
    """The terms with the digest of the request, if it has a key.

    `wanted` is what the operation asks for beside the terms. How long and how urgently a request waits is
    left out, because a retry may wait otherwise. Replicas of two versions must compute the same digest, so
    its fields never change.
    """
    if terms.idempotency_key is None:
        return terms
    fields = {
        "operation": operation,
        "ttl_seconds": terms.ttl_seconds,
        "owner": terms.owner,
        "metadata": terms.metadata,
        **wanted,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).digest()
    return replace(terms, fingerprint=digest)


def _check_that_it_is_worth_waiting(counts: PoolCounts, count: int) -> None:
    if counts.total == 0:
        raise NoSuchPoolError
    if counts.total < count:
        raise PoolTooSmallError(total=counts.total)


def _refusal(user: User) -> BotfarmError:
    if user.state is UserState.QUARANTINED:
        return UserQuarantinedError()
    return user_busy(user)


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
