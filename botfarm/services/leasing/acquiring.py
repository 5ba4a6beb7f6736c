"""Takes a lease of users of a pool, at once or after a wait."""

import time
from typing import Literal
from uuid import UUID

from botfarm.db.leasing.refusal_queries import RefusalResult
from botfarm.domain.access import Principal, Role
from botfarm.domain.leases import (
    Grant,
    LeaseRequest,
    LeaseTerms,
    Purpose,
)
from botfarm.domain.pools import PoolCounts
from botfarm.domain.wanted_labels import WantedLabels
from botfarm.errors import (
    BotfarmError,
    CallerGoneError,
    ForbiddenError,
    NoSuchPoolError,
    PoolExhaustedError,
    PoolTooSmallError,
    QuotaExceededError,
)
from botfarm.services.granting.grants import Grants
from botfarm.services.leasing.fingerprints import with_fingerprint
from botfarm.services.leasing.hand_over import HandOver, count_acquire
from botfarm.services.leasing.one_user import OneUser
from botfarm.services.leasing.refusals import Refusals
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.services.stock.pools import pool_exhausted
from botfarm.services.stock.projects import Projects
from botfarm.services.waiting.waiting_room import WaitingRoom

_ROLES = {Purpose.TEST: Role.RUNNER, Purpose.CHORE: Role.KEEPER, Purpose.HOLD: Role.MANAGER}


class Acquiring:
    def __init__(
        self,
        projects: Projects,
        one_user: OneUser,
        *,
        grants: Grants,
        waiting_room: WaitingRoom,
        refusals: Refusals,
        hand_over: HandOver,
        max_wait: float,
    ) -> None:
        self._projects = projects
        self._one_user = one_user
        self._grants = grants
        self._waiting_room = waiting_room
        self._refusals = refusals
        self._hand_over = hand_over
        self._max_wait = max_wait

    async def acquire_lease(
        self,
        principal: Principal,
        *,
        project: UUID | str,
        env: str,
        domain: str | None,
        user: str | None = None,
        labels: WantedLabels,
        count: int,
        priority: int,
        terms: LeaseTerms,
        purpose: Purpose = Purpose.TEST,
        wait_seconds: float,
        connection: CallerConnection,
    ) -> Grant:
        """Takes `count` users of a pool, all or nothing.

        The project is named by its id or its name; without a domain it is the project's first.

        With the login of a `user` only this one, whatever its domain.
        Raises ForbiddenError for a purpose that needs another role, NoSuchProjectError, NoSuchPoolError,
        NoSuchUserError, UserDirtyError, UserQuarantinedError, UserRetiredError,
        PoolTooSmallError, PoolExhaustedError, QuotaExceededError,
        IdempotencyKeyReusedError, IdempotencyKeyEndedError, and what the waiting room raises.
        """
        if not principal.role.includes(_ROLES[purpose]):
            raise ForbiddenError(f"A {purpose} needs the role {_ROLES[purpose]}.")
        domain = None if user is not None else domain
        found, pool = await self._projects.look_up_pool(principal.scope, project, env, domain)
        wanted = {"project": found.id, "env": env, "domain": pool.domain, "labels": labels, "count": count}
        user_id = None
        if user is not None:
            user_id, pool = await self._one_user.find(found.id, env, user)
            wanted = {"project": found.id, "env": env, "user_id": user_id}
        terms = with_fingerprint(terms, "acquire_lease", purpose, wanted)
        request = LeaseRequest(
            principal, pool, labels, count, priority, terms, purpose, wait_seconds, user_id=user_id
        )
        try:
            grant, since = await self._grant_or_wait(request, connection)
            return await self._hand_over(grant, terms, since=since, connection=connection)
        except BotfarmError as error:
            result = _result_of(error, waited=wait_seconds > 0)
            if purpose is Purpose.TEST:
                count_acquire(found.name, pool, result)
            if result != "error" and user_id is None:  # more users in the pool would not have helped
                self._refusals.add(request, result)
            raise

    async def _grant_or_wait(
        self, request: LeaseRequest, connection: CallerConnection
    ) -> tuple[Grant, float]:
        """Returns the grant, and the time since when it had been asked for, by the monotonic clock."""
        started = request.received_at
        seconds = min(request.wait_seconds, self._max_wait)
        tries_first = request.principal.max_leases is not None or request.user_id is not None
        # Behind requests that wait for the same users a grant could only fail, so the request joins their
        # queue at once. With a quota, or for one user, it tries first, because an exceeded quota and a user that
        # is out of service must be refused before the wait.
        if seconds <= 0 or tries_first or not self._waiting_room.is_behind_others(request):
            outcome = await self._grants.grant_now(request, will_wait=seconds > 0, deadline=started + seconds)
            if isinstance(outcome, Grant):
                return outcome, started
            if request.user_id is not None:
                await self._one_user.check(request, request.user_id, free_in=outcome.next_free_in)
            else:
                _check_that_it_is_worth_waiting(outcome, request.count)
            if seconds <= 0:
                raise pool_exhausted(outcome, request, waited=time.monotonic() - started)
        try:
            return await self._waiting_room.wait(request, connection, started=started, wait_seconds=seconds)
        except PoolExhaustedError as error:
            if request.user_id is not None and not isinstance(error, CallerGoneError):
                # It may have been quarantined meanwhile.
                await self._one_user.check(request, request.user_id, free_in=error.next_free_in)
            raise


def _check_that_it_is_worth_waiting(counts: PoolCounts, count: int) -> None:
    if counts.total == 0:
        raise NoSuchPoolError
    if counts.total < count:
        raise PoolTooSmallError(total=counts.total)


def _result_of(error: BotfarmError, *, waited: bool) -> RefusalResult | Literal["error"]:
    match error:
        case CallerGoneError():
            return "gone"
        case QuotaExceededError():
            return "quota"
        case PoolExhaustedError():
            return "timeout" if waited else "exhausted"
        case _:
            return "error"
