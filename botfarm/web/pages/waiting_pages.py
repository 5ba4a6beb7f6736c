from fastapi import Request, Response

from botfarm.domain.access import Role
from botfarm.domain.waiting import TicketFilter
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import PoolFilter
from botfarm.web.pages.page_routing import LivePageRoute, page_router
from botfarm.web.pages.rendering import render

router = page_router(route_class=LivePageRoute)


@router.get("/waiting")
@needs(Role.VIEWER)
async def waiting_page(farm: Farm, caller: Caller, request: Request, pool: PoolFilter) -> Response:
    """The requests that wait, pool by pool, in the order in which they will be served."""
    chosen = TicketFilter(pool.project_id, pool.env, pool.domain)
    tickets = await farm.pools.waiting(caller.scope, chosen)
    return render(request, "waiting.html", title="Waiting", is_live=True, pool=pool, tickets=tickets)
