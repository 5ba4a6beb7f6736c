from collections.abc import Sequence
from uuid import UUID

from botfarm.domain.access import Role
from botfarm.domain.waiting import Ticket, TicketFilter
from botfarm.web.api.shared.fields import ShortName
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.waiting.waiting_responses import TicketOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("leases")


@router.get("/leases/waiting", response_model=ListOut[TicketOut], responses=raises())
@needs(Role.VIEWER)
async def get_waiting(
    farm: Farm,
    caller: Caller,
    project_id: UUID | None = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
) -> dict[str, Sequence[Ticket]]:
    """Requests that wait for users, pool by pool, in the order in which they will be served."""
    return {"items": await farm.pools.waiting(caller.scope, TicketFilter(project_id, env, domain))}
