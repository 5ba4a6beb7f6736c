from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.usage import (
    HolderKind,
    HolderUse,
    PoolHistory,
    PoolStatsFilter,
    Step,
    UserOrder,
    UserUse,
)
from botfarm.web.api.shared.fields import Moment, ShortName
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.usage.stats_responses import HolderStatsOut, PoolStatsOut, UserStatsOut
from botfarm.web.http.dependencies import Caller, Farm, Limit
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("stats")

SinceLeases = Annotated[
    Moment | None, Query(description="Of leases that began since then; 14 days ago when it is not given.")
]


@router.get("/stats/pools", response_model=ListOut[PoolStatsOut], responses=raises())
@needs(Role.VIEWER)
async def get_pool_stats(
    farm: Farm,
    caller: Caller,
    project_id: UUID | None = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    since: Annotated[
        Moment | None,
        Query(description="A day before `until` when it is not given, or 14 days with `step=day`."),
    ] = None,
    until: Annotated[Moment | None, Query(description="Now when it is not given.")] = None,
    step: Annotated[Step, Query(description="Hours and days begin by UTC.")] = Step.HOUR,
) -> dict[str, list[PoolHistory]]:
    """How pools were used by tests, step by step; the hour under way is at most a minute old."""
    chosen = PoolStatsFilter(project_id, env, domain)
    histories = await farm.pool_stats.list(caller.scope, chosen, since=since, until=until, step=step)
    return {"items": histories}


@router.get("/stats/users", response_model=ListOut[UserStatsOut], responses=raises(errors.SlowDownError))
@needs(Role.VIEWER)
async def get_user_stats(
    farm: Farm,
    caller: Caller,
    limit: Limit,
    project_id: UUID | None = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    since: SinceLeases = None,
    sort: Annotated[
        UserOrder, Query(description="The most first; `idle`: those that were not used for longest.")
    ] = UserOrder.FAILURES,
) -> dict[str, list[UserUse]]:
    """How tests used each user, and how often it failed."""
    chosen = PoolStatsFilter(project_id, env, domain)
    users = await farm.lease_stats.users(caller.scope, chosen, since=since, order=sort, limit=limit)
    return {"items": users}


@router.get("/stats/holders", response_model=ListOut[HolderStatsOut], responses=raises(errors.SlowDownError))
@needs(Role.VIEWER)
async def get_holder_stats(
    farm: Farm,
    caller: Caller,
    limit: Limit,
    project_id: UUID | None = None,
    since: SinceLeases = None,
    by: Annotated[
        HolderKind,
        Query(
            description="`job`: the pipeline and the job of the CI that the lease names, whatever the run."
        ),
    ] = HolderKind.PRINCIPAL,
) -> dict[str, Sequence[HolderUse]]:
    """Who held users for longest, for tests and by hand."""
    holders = await farm.lease_stats.holders(
        caller.scope, kind=by, project_id=project_id, since=since, limit=limit
    )
    return {"items": holders}
