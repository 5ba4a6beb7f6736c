"""Reads rollups: how pools were used, by steps of a window."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Scope
from botfarm.domain.pools import Pool
from botfarm.domain.usage import WAIT_BOUNDS, PoolStatsFilter, UsageStep, Waits, Window

CLOCK = text("SELECT clock_timestamp()")

_CHOSEN = """({0}.project_id = CAST(:project_id AS uuid) OR CAST(:project_id AS uuid) IS NULL)
      AND ({0}.env = CAST(:env AS text) OR CAST(:env AS text) IS NULL)
      AND ({0}.domain = CAST(:domain AS text) OR CAST(:domain AS text) IS NULL)"""

POOLS = text(f"""
    SELECT pools.project_id, pools.env, pools.domain, coalesce(p.name, pools.project_id::text) AS project_name
    FROM (
        SELECT project_id, env, domain FROM users AS u WHERE {within("u")} AND {_CHOSEN.format("u")}
        UNION
        SELECT project_id, env, domain FROM rollups AS r
        WHERE hour >= :since AND hour < :until AND {within("r")} AND {_CHOSEN.format("r")}
    ) AS pools LEFT JOIN projects AS p ON p.id = pools.project_id
    ORDER BY project_name, env, domain""")

# Of the hour under way only the part until the last count has passed.
_OBSERVED_SHARE = """coalesce(
    h.observed_seconds / nullif(date_part('epoch', least(interval '1 hour', observed.until - r.hour)), 0), 0)"""
_WAITS = ", ".join(f"coalesce(sum(waits[{bucket}]), 0)::bigint" for bucket in range(1, len(WAIT_BOUNDS) + 2))

STEPS = text(f"""
    SELECT date_trunc(:step, r.hour, 'UTC') AS at, r.project_id, r.env, r.domain,
           sum(granted)::bigint AS granted, sum(exhausted)::bigint AS exhausted, sum(timeout)::bigint AS timeout,
           sum(gone)::bigint AS gone, sum(quota)::bigint AS quota,
           ARRAY[{_WAITS}] AS waits, max(longest_wait) AS longest_wait, sum(busy_seconds) AS busy_seconds,
           sum(in_service_seconds) AS in_service_seconds,
           sum(busy_seconds * {_OBSERVED_SHARE}) AS observed_busy_seconds, max(peak_demand) AS peak_demand
    FROM rollups AS r LEFT JOIN rollup_hours AS h USING (hour),
         (SELECT max(observed_until) AS until FROM rollup_hours) AS observed
    WHERE r.hour >= :since AND r.hour < :until AND {within("r")} AND {_CHOSEN.format("r")}
    GROUP BY at, r.project_id, r.env, r.domain""")

ENDS = text(f"""
    SELECT date_trunc(:step, r.hour, 'UTC') AS at, r.project_id, r.env, r.domain, e.how, sum(e.users::bigint)::bigint
           AS users
    FROM rollups AS r, jsonb_each_text(r.ends) AS e (how, users)
    WHERE r.hour >= :since AND r.hour < :until AND {within("r")} AND {_CHOSEN.format("r")}
    GROUP BY at, r.project_id, r.env, r.domain, e.how""")

RECENT_WAITS = text(f"""
    SELECT r.hour AS at, r.project_id, r.env, r.domain, r.waits, r.longest_wait FROM rollups AS r
    WHERE r.hour >= :since AND {within("r")}""")


@dataclass(frozen=True, slots=True)
class NamedPool:
    pool: Pool
    project_name: str


async def clock(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(CLOCK)).scalar_one()
    return now


async def list_pools(
    session: AsyncSession, scope: Scope, chosen: PoolStatsFilter, window: Window
) -> list[NamedPool]:
    """The pools of the scope that have users, or had requests or users in the window."""
    rows = await session.execute(POOLS, _parameters(scope, chosen, window))
    return [NamedPool(_pool(row), row.project_name) for row in rows]


async def list_steps(
    session: AsyncSession, scope: Scope, chosen: PoolStatsFilter, window: Window
) -> dict[Pool, dict[datetime, UsageStep]]:
    """The figures of each pool of the scope, step by step; steps without any are missing."""
    parameters = {**_parameters(scope, chosen, window), "step": window.step.value}
    ends: dict[tuple[Pool, datetime], dict[str, int]] = {}
    for row in await session.execute(ENDS, parameters):
        ends.setdefault((_pool(row), row.at), {})[row.how] = row.users
    found: dict[Pool, dict[datetime, UsageStep]] = {}
    for row in await session.execute(STEPS, parameters):
        pool = _pool(row)
        found.setdefault(pool, {})[row.at] = _figures(row, ends.get((pool, row.at), {}))
    return found


async def recent_waits(
    session: AsyncSession, scope: Scope, *, since: datetime
) -> Iterator[tuple[Pool, datetime, Waits]]:
    """The waits of each pool of the scope in each hour since then, in no order."""
    rows = await session.execute(RECENT_WAITS, {"since": since, **scope_parameters(scope)})
    return ((_pool(row), row.at, Waits(row.waits, row.longest_wait)) for row in rows)


def _parameters(scope: Scope, chosen: PoolStatsFilter, window: Window) -> dict[str, object]:
    return {
        "project_id": chosen.project_id,
        "env": chosen.env,
        "domain": chosen.domain,
        "since": window.since,
        "until": window.until,
        **scope_parameters(scope),
    }


def _figures(row: Row[Any], ends: dict[str, int]) -> UsageStep:
    return UsageStep(
        at=row.at,
        granted=row.granted,
        refusals={
            "exhausted": row.exhausted,
            "timeout": row.timeout,
            "gone": row.gone,
            "quota": row.quota,
        },
        wait=Waits(row.waits, row.longest_wait),
        busy_seconds=row.busy_seconds,
        in_service_seconds=row.in_service_seconds,
        observed_busy_seconds=row.observed_busy_seconds,
        peak_demand=row.peak_demand,
        ends=ends,
    )


def _pool(row: Row[Any]) -> Pool:
    return Pool(row.project_id, row.env, row.domain)
