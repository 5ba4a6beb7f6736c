"""How many users the pools of a project need, and how they were used in the last fortnight."""

from typing import Annotated

from fastapi import Query, Request, Response

from botfarm.domain.access import Role
from botfarm.domain.capacity import WaitGoal
from botfarm.domain.usage import PoolStatsFilter, Step
from botfarm.web.api.usage.capacity_routes import MAX_DAYS
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import PoolFilter
from botfarm.web.pages.page_routing import page_router
from botfarm.web.pages.rendering import render

router = page_router()


@router.get("/capacity")
@needs(Role.VIEWER)
async def capacity_page(
    farm: Farm,
    caller: Caller,
    request: Request,
    pool: PoolFilter,
    goal: Annotated[float, Query(ge=0, le=86_400, allow_inf_nan=False)] = 30,
    percent: Annotated[float, Query(gt=0, lt=100, allow_inf_nan=False)] = 95,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS)] = 14,
) -> Response:
    """Not live: a replay takes seconds, and its answer changes by the day."""
    if pool.project is None and len(pool.projects) == 1:
        pool = pool.of(pool.projects[0])
    wanted = WaitGoal(goal, percent / 100, days)
    pools, histories = [], {}
    if pool.project_id is not None:
        pools = await farm.capacity.of_pools(
            caller.scope, wanted, project_id=pool.project_id, env=pool.env, domain=pool.domain
        )
        chosen = PoolStatsFilter(pool.project_id, pool.env, pool.domain)
        found = await farm.pool_stats.list(caller.scope, chosen, since=None, until=None, step=Step.DAY)
        histories = {history.pool: history for history in found}
    return render(
        request,
        "capacity.html",
        title="Capacity",
        pool=pool,
        goal=goal,
        percent=percent,
        days=days,
        pools=pools,
        histories=histories,
    )
