"""Quotas: how many users a token, a run of a CI, and all runs of a trust rule may hold at the same time.

Only principals with a quota pay for the count.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import advisory_locks, lease_reading_queries
from botfarm.domain.access import Principal, run_principal
from botfarm.errors import QuotaExceededError


async def check_quota(
    session: AsyncSession, principal: Principal, *, count: int, idempotency_key: str | None
) -> None:
    """Checks that the principal may take `count` more users in this transaction. Raises QuotaExceededError.

    The users are counted and taken in one transaction under a lock of the principal, so that two requests at
    once cannot both take the last place. A retry under the key of a granted request takes no user, and
    passes.
    """
    if not principal.has_quota:
        return
    try:
        if principal.run is not None and principal.run.max_leases_of_rule is not None:
            await _check_quota_of_rule(session, principal.run.rule, principal.run.max_leases_of_rule, count)
        if principal.max_leases is not None:
            await _check_own_quota(session, principal.name, principal.max_leases, count)
    except QuotaExceededError:
        if idempotency_key and await lease_reading_queries.lease_by_key(
            session, principal.name, idempotency_key
        ):
            return
        raise


async def _check_quota_of_rule(session: AsyncSession, rule: str, most: int, count: int) -> None:
    runs = run_principal(rule, "")
    await advisory_locks.lock_principal(session, runs)
    held = await lease_reading_queries.count_held_by_all(session, runs)
    if held + count > most:
        detail = "The runs of this trust rule hold as many users as they may together."
        raise QuotaExceededError(detail, held=held, count=count, max_leases=most)


async def _check_own_quota(session: AsyncSession, principal: str, most: int, count: int) -> None:
    await advisory_locks.lock_principal(session, principal)
    held = await lease_reading_queries.count_held(session, principal)
    if held + count > most:
        never = "This token may never hold so many users at once." if count > most else None
        raise QuotaExceededError(never, held=held, count=count, max_leases=most)
