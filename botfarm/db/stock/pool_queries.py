from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLOCK, POOL_COUNTS, POOL_HEALTH, SEEN
from botfarm.db.shared.wanted_users import HAS_LABELS, label_parameters
from botfarm.db.waiting.live_tickets import LIVE_TICKET, TICKETS
from botfarm.domain.access import Scope
from botfarm.domain.health import Health
from botfarm.domain.leases import WantedUsers
from botfarm.domain.pools import Pool, PoolCounts, PoolUsage

COUNT_POOLS = text(f"""
    WITH lines AS (
        SELECT t.project_id, t.env, t.domain, count(*) AS waiting,
               min(t.arrived_at) AS waiting_since,
               extract(epoch FROM clock_timestamp() - min(t.arrived_at))::float8 AS oldest_wait
        FROM {TICKETS} WHERE t.purpose = 'test' AND {LIVE_TICKET} GROUP BY t.project_id, t.env, t.domain
    ),
    pools AS (
        SELECT project_name, project_id, env, domain, {POOL_COUNTS}, {POOL_HEALTH}
        FROM ({SEEN} FROM users AS u JOIN projects AS p ON p.id = u.project_id, {CLOCK}
              WHERE {within("u")} OFFSET 0) AS seen
        GROUP BY project_name, project_id, env, domain
    )
    SELECT pools.*, coalesce(lines.waiting, 0) AS waiting, lines.waiting_since, lines.oldest_wait
    FROM pools LEFT JOIN lines USING (project_id, env, domain)
    ORDER BY project_name, env, domain""")


def _count(users: str, *, tickets: str = "true") -> TextClause:
    line = f"{TICKETS} WHERE {OF_POOL.format('t')} AND t.purpose = 'test' AND {LIVE_TICKET} AND {tickets}"
    return text(f"""
    SELECT {POOL_COUNTS},
           (SELECT count(*) FROM {line}) AS waiting,
           (SELECT count(t.user_id) FROM {line}) AS waiting_for_one
    FROM ({SEEN} FROM users AS u JOIN projects AS p ON p.id = u.project_id, {CLOCK}
          WHERE {OF_POOL.format("u")} AND {users} OFFSET 0) AS seen""")


COUNT_POOL = _count(HAS_LABELS)
COUNT_ONE = _count("u.id = :user_id", tickets="(t.user_id IS NULL OR t.user_id = :user_id)")


async def count_pools(session: AsyncSession, scope: Scope) -> list[PoolUsage]:
    usages = []
    for row in (await session.execute(COUNT_POOLS, scope_parameters(scope))).mappings():
        counts = dict(row)
        project_name = counts.pop("project_name")
        pool = Pool(counts.pop("project_id"), counts.pop("env"), counts.pop("domain"))
        health = {each: counts.pop(f"health_{each}") for each in Health}
        oldest_dirty = counts.pop("oldest_dirty")
        usages.append(PoolUsage(pool, project_name, PoolCounts(**counts), health, oldest_dirty))
    return usages


async def count_pool(session: AsyncSession, pool: Pool, wanted: WantedUsers) -> PoolCounts:
    """Counts the users that are wanted, and the waiting requests of the pool, for any labels.

    If one user is wanted, requests that wait for another one are left out.
    """
    labels, user_id = wanted
    parameters: dict[str, object] = pool_parameters(pool)
    if user_id is None:
        statement = COUNT_POOL
        parameters |= label_parameters(dict(labels))
    else:
        statement = COUNT_ONE
        parameters["user_id"] = user_id
    return PoolCounts(**(await session.execute(statement, parameters)).mappings().one())
