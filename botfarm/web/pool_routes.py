from botfarm.domain import PoolUsage
from botfarm.web.dependencies import Farm
from botfarm.web.responses import ListOut, PoolOut
from botfarm.web.routing import api_router, raises

router = api_router("pools")


@router.get("/pools", response_model=ListOut[PoolOut], responses=raises())
async def get_pools(farm: Farm) -> dict[str, list[PoolUsage]]:
    """How many users each pool has, and how they stand."""
    return {"items": await farm.pools.list()}
