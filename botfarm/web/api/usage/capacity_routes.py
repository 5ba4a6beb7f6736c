from typing import Annotated
from uuid import UUID

from fastapi import Query

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.capacity import PoolCapacity, WaitGoal
from botfarm.web.api.shared.fields import Quantile, ShortName
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.usage.capacity_responses import PoolCapacityOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("capacity")

MAX_DAYS = 90


@router.get(
    "/capacity",
    response_model=ListOut[PoolCapacityOut],
    responses=raises(errors.NoSuchProjectError, errors.SlowDownError),
)
@needs(Role.VIEWER)
async def get_capacity(
    farm: Farm,
    caller: Caller,
    project_id: UUID,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    goal_seconds: Annotated[
        float, Query(ge=0, le=86_400, allow_inf_nan=False, description="How long a request may wait.")
    ] = 30,
    quantile: Annotated[Quantile, Query(description="The share of requests that must keep the goal.")] = 0.95,
    days: Annotated[int, Query(ge=1, le=MAX_DAYS, description="Of UTC, the last of them today.")] = 14,
) -> dict[str, list[PoolCapacity]]:
    """How many users each pool needs: what was asked of it, replayed in pools of other sizes.

    It takes seconds for a busy pool; an answer may be five minutes old.
    """
    goal = WaitGoal(goal_seconds, quantile, days)
    return {
        "items": await farm.capacity.of_pools(
            caller.scope, goal, project_id=project_id, env=env, domain=domain
        )
    }
