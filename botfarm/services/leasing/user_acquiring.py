"""Takes a lease of one user by its id: for a test, or for a person who holds it."""

import asyncio
import time
from functools import partial
from uuid import UUID

from botfarm.db.leasing import user_grant_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_reading_queries
from botfarm.domain.access import Principal, Role
from botfarm.domain.leases import Grant, LeaseOperation, LeaseTerms, Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.users import User, UserState
from botfarm.errors import BotfarmError, ForbiddenError, NoSuchUserError
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.grants import replay
from botfarm.services.granting.quotas import check_quota
from botfarm.services.leasing.fingerprints import with_fingerprint
from botfarm.services.leasing.hand_over import HandOver, count_acquire
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.users import not_in_service, user_busy

# A free user that is locked by another statement is tried again, because such statements take milliseconds.
# Seconds.
LOCK_TRIES, LOCK_PAUSE = 5, 0.02

_MAY_BE_HAD = {
    Purpose.TEST: {UserState.FREE},
    Purpose.HOLD: {UserState.FREE, UserState.DIRTY, UserState.QUARANTINED},
}
_OPERATIONS = {Purpose.TEST: LeaseOperation.ACQUIRE_LOCK, Purpose.HOLD: LeaseOperation.ACQUIRE_LEASE}


class UserAcquiring:
    def __init__(
        self,
        database: Database,
        projects: Projects,
        *,
        hand_over: HandOver,
        limiter: AcquireLimiter,
        clock: DatabaseClock,
    ) -> None:
        self._database = database
        self._projects = projects
        self._hand_over = hand_over
        self._limiter = limiter
        self._clock = clock

    async def acquire_lock(
        self, principal: Principal, user_id: UUID, terms: LeaseTerms, *, connection: CallerConnection
    ) -> Grant:
        """Takes a user for a test.

        Raises NoSuchUserError, UserBusyError, UserDirtyError, UserQuarantinedError, UserRetiredError,
        QuotaExceededError, IdempotencyKeyReusedError, IdempotencyKeyEndedError.
        """
        return await self._acquire(principal, user_id, terms, Purpose.TEST, connection)

    async def hold(
        self, principal: Principal, user_id: UUID, terms: LeaseTerms, *, connection: CallerConnection
    ) -> Grant:
        """Takes a user for a person, also one that no test would get, unless it is leased or retired.

        Raises as `acquire_lock`, and ForbiddenError.
        """
        if not principal.role.includes(Role.MANAGER):
            raise ForbiddenError("A hold needs the role manager.")
        return await self._acquire(principal, user_id, terms, Purpose.HOLD, connection)

    async def _acquire(
        self,
        principal: Principal,
        user_id: UUID,
        terms: LeaseTerms,
        purpose: Purpose,
        connection: CallerConnection,
    ) -> Grant:
        started = time.monotonic()
        operation = _OPERATIONS[purpose]
        terms = with_fingerprint(terms, operation, purpose, {"user_id": user_id})
        tries = LOCK_TRIES
        while True:
            attempt = partial(self._try_user, principal, user_id, terms, purpose, operation)
            outcome = await self._limiter.run(attempt, deadline=started)
            if isinstance(outcome, Grant):
                return await self._hand_over(outcome, terms, since=started, connection=connection)
            tries -= 1
            is_leased = outcome.locktime is not None
            if is_leased or outcome.state not in _MAY_BE_HAD[purpose] or tries == 0:
                if purpose is Purpose.TEST:
                    await self._count_refusal(principal, outcome.pool)
                raise _refusal(outcome, purpose)
            await asyncio.sleep(LOCK_PAUSE)

    async def _try_user(
        self,
        principal: Principal,
        user_id: UUID,
        terms: LeaseTerms,
        purpose: Purpose,
        operation: LeaseOperation,
    ) -> Grant | User:
        is_one_statement = principal.max_leases is None and terms.idempotency_key is None
        async with (
            self._database.autocommit() if is_one_statement else self._database.transaction() as session
        ):
            await check_quota(session, principal, count=1, idempotency_key=terms.idempotency_key)
            lease = await user_grant_queries.grant_user(
                session,
                principal,
                user_id,
                terms,
                purpose=purpose,
                operation=operation,
                latest=self._clock.latest(),
            )
            grant = Grant(lease) if lease else await replay(session, principal, terms)
            user = None if grant else await user_reading_queries.get_user(session, user_id, principal.scope)
        outcome = grant or user
        if outcome is None:
            raise NoSuchUserError
        return outcome

    async def _count_refusal(self, principal: Principal, pool: Pool) -> None:
        project = await self._projects.look_up(principal.scope, pool.project_id)
        count_acquire(project.name, pool, "exhausted")


def _refusal(user: User, purpose: Purpose) -> BotfarmError:
    # A quarantine does not stand in the way of a hold; the lease of another does.
    if purpose is Purpose.HOLD and user.locktime is not None and not user.is_retired:
        return user_busy(user)
    return not_in_service(user) or user_busy(user)
