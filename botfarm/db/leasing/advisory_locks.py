"""Advisory locks, held until the end of the transaction: of a pool, a principal, and the configuration.

https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.domain.pools import Pool

ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


async def lock_pool(session: AsyncSession, pool: Pool) -> None:
    """Makes other transactions that lock this pool wait. Acquires that do not lock it go on."""
    await session.execute(ADVISORY_LOCK, {"name": f"{pool.project_id}/{pool.env}/{pool.domain}"})


async def lock_configuration(session: AsyncSession, *, patience: float) -> None:
    """Makes other transactions that apply a configuration wait, each up to `patience` seconds for a statement."""
    await session.execute(text(f"SET LOCAL statement_timeout = {int(patience * 1000)}"))
    await session.execute(ADVISORY_LOCK, {"name": "configuration"})


async def lock_principal(session: AsyncSession, principal: str) -> None:
    """Makes other transactions that lock this principal wait, so that only one of them counts its quota."""
    await session.execute(ADVISORY_LOCK, {"name": f"principal/{principal}"})
