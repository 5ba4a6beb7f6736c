from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.configuration import Applied, Plan
from botfarm.web.api.configuration_requests import ConfigurationToApply, ConfigurationToPlan
from botfarm.web.api.configuration_responses import AppliedOut, PlanOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import ConfigurationRoute, api_router, raises

router = api_router("configuration", route_class=ConfigurationRoute)


@router.post("/config/plan", response_model=PlanOut, responses=raises(body=True))
@needs(Role.MANAGER)
async def plan_config(farm: Farm, caller: Caller, body: ConfigurationToPlan) -> Plan:
    """What an apply of this file would change. Projects and tokens need the role admin."""
    return await farm.configuration.plan(caller, body.wanted())


@router.post(
    "/config/apply", response_model=AppliedOut, responses=raises(errors.ChangedMeanwhileError, body=True)
)
@needs(Role.MANAGER)
async def apply_config(farm: Farm, caller: Caller, body: ConfigurationToApply) -> Applied:
    """Carry out a plan, all of it or nothing. It is refused when the plan would be another one by now."""
    return await farm.configuration.apply(caller, body.wanted(), body.fingerprint)
