from collections.abc import Sequence

from botfarm.domain.access import Role
from botfarm.domain.pools import PoolUsage
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.stock.pool_responses import PoolOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("pools")


@router.get("/pools", response_model=ListOut[PoolOut], responses=raises())
@needs(Role.VIEWER)
async def get_pools(farm: Farm, caller: Caller) -> dict[str, Sequence[PoolUsage]]:
    """How many users each pool has, and how they stand."""
    return {"items": await farm.pools.list(caller.scope)}
