import asyncio

from fastapi import Response

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.configuration import Applied, Plan
from botfarm.web.api.configuration.configuration_requests import ConfigurationToApply, ConfigurationToPlan
from botfarm.web.api.configuration.configuration_responses import AppliedOut, PlanOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import ConfigurationRoute, api_router, raises

router = api_router("configuration", route_class=ConfigurationRoute)


@router.post("/config/plan", response_model=PlanOut, responses=raises(body=True))
@needs(Role.MANAGER)
async def plan_config(farm: Farm, caller: Caller, body: ConfigurationToPlan) -> Response:
    """What an apply of this file would change. Projects, tokens and trust rules need the role admin."""
    plan = await farm.configuration.plan(caller, body.wanted())
    return Response(await asyncio.to_thread(_json_of, plan), media_type="application/json")


@router.post(
    "/config/apply", response_model=AppliedOut, responses=raises(errors.ChangedMeanwhileError, body=True)
)
@needs(Role.MANAGER)
async def apply_config(farm: Farm, caller: Caller, body: ConfigurationToApply) -> Response:
    """Carry out a plan, all of it or nothing. It is refused when the plan would be another one by now."""
    applied = await farm.configuration.apply(caller, body.wanted(), body.fingerprint)
    return Response(await asyncio.to_thread(_json_of, applied), media_type="application/json")


def _json_of(done: Plan | Applied) -> str:
    """The answer. Made in a thread, because that of 10,000 changes takes a part of a second."""
    kind = PlanOut if isinstance(done, Plan) else AppliedOut
    return kind.model_validate(done).model_dump_json()
