"""Leases and refused requests of any hour, as a test writes them, and their rollups."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from botfarm.domain.pools import Pool
from support.farm import Farm


async def forge_lease(
    farm: Farm,
    pool: Pool,
    began: datetime,
    ended: datetime | None = None,
    *,
    users: Sequence[UUID] = (),
    waited: float = 0,
    ended_by: str = "released",
    outcome: str | None = "ok",
    reason: str | None = None,
    purpose: str = "test",
    principal: str = "somebody",
    owner: str | None = None,
    metadata: str = "{}",
) -> int:
    """A lease of one user unless `users` are given, live for ten more hours without an end. Returns its fence."""
    chosen = list(users) or [uuid4()]
    fence: int = await farm.sql.fetchval(
        """WITH l AS (
               INSERT INTO leases (fence, principal, operation, purpose, owner, metadata, project_id, env, domain,
                                   user_ids, acquired_at, expires_at, ttl_seconds, hold_until, ended_at, ended_by,
                                   outcome, reason, requested_at, waited)
               SELECT nextval('fence'), $1, 'acquire_lease', $2, $3, $4, $5, $6, $7, $8, $9::timestamptz,
                      coalesce($10::timestamptz, $9 + interval '10 hours'), 60, $9 + interval '100 hours', $10,
                      CASE WHEN $10 IS NOT NULL THEN $11 END, CASE WHEN $11 = 'released' THEN $12 END, $13,
                      $9 - make_interval(secs => $14), $14
               RETURNING fence, user_ids
           ), u AS (
               INSERT INTO lease_users (user_id, fence, due)
               SELECT unnest(user_ids), fence, CASE $2 WHEN 'chore' THEN ARRAY['check'] END FROM l
           )
           SELECT fence FROM l""",
        principal,
        purpose,
        owner,
        metadata,
        pool.project_id,
        pool.env,
        pool.domain,
        chosen,
        began,
        ended,
        ended_by,
        outcome,
        reason,
        waited,
    )
    return fence


async def forge_refusals(
    farm: Farm, pool: Pool, minute: datetime, result: str, requests: int, *, waited: float = 0, count: int = 1
) -> None:
    """`waited` is of each request."""
    await farm.sql.execute(
        """INSERT INTO refused_requests (minute, project_id, env, domain, purpose, result, labels, count, priority,
                                         wait_seconds, requests, waited, longest_wait)
           VALUES ($1, $2, $3, $4, 'test', $5, '{}', $6, 0, $7, $8::int, $7::float8 * $8, $7)""",
        minute,
        pool.project_id,
        pool.env,
        pool.domain,
        result,
        count,
        waited,
        requests,
    )


async def roll_up(farm: Farm) -> int:
    return await farm.services.rollups.roll_up(asyncio.Event())


async def rollups(farm: Farm, pool: Pool) -> dict[datetime, dict[str, Any]]:
    """The rows of a pool by their hours, without the seconds in service."""
    rows = await farm.sql.fetch(
        """SELECT hour, granted, exhausted, timeout, gone, quota, waits, longest_wait, busy_seconds, peak_demand, ends
           FROM rollups WHERE (project_id, env, domain) = ($1, $2, $3) ORDER BY hour""",
        pool.project_id,
        pool.env,
        pool.domain,
    )
    return {row["hour"]: dict(row) for row in rows}


async def hours_ago(farm: Farm, hours: int) -> datetime:
    """The beginning of an hour, by the database's clock."""
    this_hour: datetime = await farm.sql.fetchval("SELECT date_trunc('hour', clock_timestamp(), 'UTC')")
    return this_hour - timedelta(hours=hours)
