"""The statement that marks a user's one-time codes as given."""

from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.domain.credentials import TotpCode

# A code whose period begins before the mark may have been given: by this replica, or by one whose clock differs.
_MARK_GIVEN = text("""
    UPDATE users AS u SET code_used_until = code.until
    FROM (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:since AS timestamptz[]), CAST(:until AS timestamptz[]))
              AS code (id, since, until) ORDER BY id) AS code
    WHERE u.id = code.id AND u.lease_id = :lease_id AND coalesce(u.code_used_until <= code.since, true)
    RETURNING u.id""")


async def mark_given(session: AsyncSession, lease_id: UUID, codes: Mapping[UUID, TotpCode]) -> set[UUID]:
    """Returns the users, of this last lease, whose code nobody has got yet. From now on it counts as given."""
    parameters = {
        "lease_id": lease_id,
        "ids": list(codes),
        "since": [code.period[0] for code in codes.values()],
        "until": [code.period[1] for code in codes.values()],
    }
    return set((await session.execute(_MARK_GIVEN, parameters)).scalars())
