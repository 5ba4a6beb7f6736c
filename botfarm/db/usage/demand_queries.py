"""Reads what was asked of a pool: its leases, and the requests that got no user."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.shared.wanted_users import all_labels
from botfarm.domain.leases import Due
from botfarm.domain.pools import Pool

# No index tells the leases of a time, and one would slow down every grant. But fences grow with time, so a binary
# search on them finds where the time begins.
FIRST_FENCE = text("""
    WITH RECURSIVE search AS (
        SELECT min(fence) AS low, max(fence) + 1 AS high FROM leases
        UNION ALL
        SELECT CASE WHEN is_before THEN middle + 1 ELSE low END, CASE WHEN is_before THEN high ELSE middle END
        FROM (
            SELECT low, high, middle, (SELECT acquired_at < :since FROM leases WHERE fence >= middle
                                       ORDER BY fence LIMIT 1) AS is_before
            FROM search, LATERAL (SELECT (low + high) / 2 AS middle) AS m WHERE low < high
        ) AS halves
    )
    SELECT low FROM search WHERE low = high""")

# A keeper's lease on a dirty user is its cleaning. Chores have one user.
LEASES = text(f"""
    SELECT fence, coalesce(purpose, 'test') AS purpose, user_ids,
           extract(epoch FROM coalesce(requested_at, acquired_at))::float8 AS requested_at,
           extract(epoch FROM acquired_at)::float8 AS acquired_at,
           extract(epoch FROM least(ended_at, expires_at, clock_timestamp()))::float8 AS ended_at,
           ended_by, coalesce({all_labels("l")}, '{{}}')::text AS labels, coalesce(priority, 0) AS priority,
           coalesce(purpose = 'chore', false) AND EXISTS (
               SELECT FROM lease_users AS lu
               WHERE lu.user_id = l.user_ids[1] AND lu.fence = l.fence AND '{Due.CLEAN}' = ANY (lu.due)
           ) AS is_cleaning
    FROM leases AS l
    WHERE fence >= :first AND fence < :before AND acquired_at >= :since AND {OF_POOL.format("l")}
    ORDER BY fence DESC LIMIT :limit""")

# A request over its quota does not need more users. A caller that was ready to wait longer than the farm keeps a
# request open asks again, and is counted when it has got users, or with its last try.
REFUSED = text(f"""
    SELECT extract(epoch FROM r.minute)::float8 AS minute, r.labels::text AS labels, r.count, r.priority, r.requests,
           r.waited / r.requests AS waited
    FROM refused_requests AS r
    WHERE r.minute >= :since AND {OF_POOL.format("r")} AND r.purpose = 'test' AND r.result <> 'quota'
      AND NOT (r.result = 'timeout' AND r.wait_seconds > r.longest_wait + 1)
    ORDER BY r.minute DESC LIMIT :limit""")

USERS = text(f"""
    SELECT u.labels::text AS labels, count(*) AS users FROM users AS u
    WHERE {OF_POOL.format("u")} AND (u.status IN ('active', 'dirty') OR u.status_until <= clock_timestamp())
    GROUP BY u.labels""")

ABOVE_ALL_FENCES = 2**63 - 1

NOW = text("SELECT clock_timestamp()")


class RecordedLease(NamedTuple):
    """Times are seconds of the epoch."""

    fence: int
    purpose: str
    user_ids: Sequence[UUID]
    requested_at: float
    acquired_at: float
    ended_at: float
    """Now for a lease that is open."""
    ended_by: str | None
    labels: str
    """JSON, the same text for the same labels."""
    priority: int
    is_cleaning: bool


class RefusedKind(NamedTuple):
    minute: float
    labels: str
    users: int
    """How many each request wanted."""
    priority: int
    requests: int
    waited: float
    """Seconds, on average."""


class EqualUsers(NamedTuple):
    labels: str
    users: int


async def read_clock(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(NOW)).scalar_one()
    return now


async def first_fence(session: AsyncSession, since: datetime) -> int:
    """The lowest fence of the leases since then."""
    return await session.scalar(FIRST_FENCE, {"since": since}) or 0


async def read_leases(
    session: AsyncSession, pool: Pool, *, since: datetime, first: int, before: int, limit: int
) -> list[RecordedLease]:
    """Leases of the pool with fences from `first` and below `before`, the newest first."""
    parameters = {**pool_parameters(pool), "since": since, "first": first, "before": before, "limit": limit}
    return [RecordedLease(*row) for row in await session.execute(LEASES, parameters)]


async def read_refused(
    session: AsyncSession, pool: Pool, *, since: datetime, limit: int
) -> list[RefusedKind]:
    """Requests of tests that got no user, the newest first."""
    parameters = {**pool_parameters(pool), "since": since, "limit": limit}
    return [RefusedKind(*row) for row in await session.execute(REFUSED, parameters)]


async def read_users(session: AsyncSession, pool: Pool) -> list[EqualUsers]:
    """The users in service: active or dirty."""
    return [EqualUsers(*row) for row in await session.execute(USERS, pool_parameters(pool))]
