from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.access import Scope
from botfarm.db.scopes import scope_parameters, within
from botfarm.db.user_state import CLOCK, POOL_COUNTS
from botfarm.domain import Domain, Env, Pool, PoolCounts, PoolUsage

COUNT_POOLS = text(f"""
    SELECT p.name AS project_name, u.project_id, u.env, u.domain, {POOL_COUNTS}
    FROM users AS u JOIN projects AS p ON p.id = u.project_id, {CLOCK}
    WHERE {within("u")}
    GROUP BY p.name, u.project_id, u.env, u.domain
    ORDER BY p.name, u.env, u.domain""")


async def count_pools(session: AsyncSession, scope: Scope) -> list[PoolUsage]:
    usages = []
    for row in (await session.execute(COUNT_POOLS, scope_parameters(scope))).mappings():
        counts = dict(row)
        project_name = counts.pop("project_name")
        pool = Pool(counts.pop("project_id"), Env(counts.pop("env")), Domain(counts.pop("domain")))
        usages.append(PoolUsage(pool, project_name, PoolCounts(**counts)))
    return usages
