"""The board: every pool of the caller's scope, and how its users stand."""

from fastapi import Request, Response

from botfarm.domain.access import Role
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import LivePageRoute, page_router
from botfarm.web.pages.rendering import render

router = page_router(route_class=LivePageRoute)


@router.get("/pools")
@needs(Role.VIEWER)
async def pools_page(farm: Farm, caller: Caller, request: Request) -> Response:
    pools = await farm.pools.list(caller.scope)
    recent = await farm.pool_stats.recent_waits(caller.scope)
    waits = {pool: hours for pool, hours in recent.items() if any(wait is not None for wait in hours)}
    due = [each.counts.next_free_in for each in pools if each.counts.next_free_in is not None]
    return render(
        request,
        "pools.html",
        title="Pools",
        is_live=True,
        next_in=min(due, default=None),
        pools=pools,
        waits=waits,
    )
