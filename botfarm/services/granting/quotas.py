"""How many users a token may hold at the same time. Only tokens that have a quota pay for the count."""

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import acquire_user_queries
from botfarm.db.leasing.acquire_user_queries import LeaseTerms
from botfarm.domain.access import Principal
from botfarm.errors import QuotaExceededError


async def hold_to_quota(
    session: AsyncSession, principal: Principal, terms: LeaseTerms, *, count: int
) -> None:
    """Lets the principal take so many users in this transaction. Raises QuotaExceededError.

    Counting and taking are one transaction under a lock of the principal, so that two requests at once cannot both take
    the last place. A retry of a request that was granted takes nothing.
    """
    if principal.max_leases is None:
        return
    await acquire_user_queries.lock_principal(session, principal.name)
    held = await acquire_user_queries.count_held(session, principal.name)
    if held + count <= principal.max_leases:
        return
    key = terms.idempotency_key
    if key and await acquire_user_queries.lease_by_key(session, principal.name, key):
        return
    never = "This token may never hold so many users at once." if count > principal.max_leases else None
    raise QuotaExceededError(never, held=held, count=count, max_leases=principal.max_leases)
