"""The quota of a token: how many users it may hold at the same time.

Only tokens with a quota pay for the count.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import advisory_locks, lease_reading_queries
from botfarm.domain.access import Principal
from botfarm.errors import QuotaExceededError


async def check_quota(
    session: AsyncSession, principal: Principal, *, count: int, idempotency_key: str | None
) -> None:
    """Checks that the principal may take `count` more users in this transaction. Raises QuotaExceededError.

    The users are counted and taken in one transaction under a lock of the principal, so that two requests at
    once cannot both take the last place. A retry under the key of a granted request takes no user, and
    passes.
    """
    if principal.max_leases is None:
        return
    await advisory_locks.lock_principal(session, principal.name)
    held = await lease_reading_queries.count_held(session, principal.name)
    if held + count <= principal.max_leases:
        return
    if idempotency_key and await lease_reading_queries.lease_by_key(session, principal.name, idempotency_key):
        return
    never = "This token may never hold so many users at once." if count > principal.max_leases else None
    raise QuotaExceededError(never, held=held, count=count, max_leases=principal.max_leases)
