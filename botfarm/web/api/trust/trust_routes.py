from uuid import UUID

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.trust import TrustRule
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.api.trust.trust_requests import NewTrustRule
from botfarm.web.api.trust.trust_responses import TrustRuleOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("trust rules")


@router.post(
    "/trust-rules",
    status_code=201,
    response_model=TrustRuleOut,
    responses=raises(errors.NoSuchProjectError, errors.TrustRuleExistsError, body=True),
)
@needs(Role.ADMIN)
async def create_trust_rule(farm: Farm, caller: Caller, body: NewTrustRule) -> TrustRule:
    """Let the runs of a CI exchange their identity tokens for tokens of the farm, so that the CI keeps no secret."""
    return await farm.trust_rules.create(
        caller,
        name=body.name,
        issuer=body.issuer,
        claims=body.claims,
        role=body.role,
        projects=body.chosen_projects,
        envs=body.chosen_envs,
        max_leases=body.max_leases,
        max_leases_of_all=body.max_leases_of_all,
        token_ttl=body.token_ttl,
        once=body.once,
    )


@router.get("/trust-rules", response_model=ListOut[TrustRuleOut], responses=raises())
@needs(Role.ADMIN)
async def get_trust_rules(farm: Farm, caller: Caller) -> dict[str, list[TrustRule]]:
    """The trust rules within your scope, by their names."""
    return {"items": await farm.trust_rules.list(caller.scope)}


@router.delete("/trust-rules/{rule_id}", status_code=204, responses=raises(errors.NoSuchTrustRuleError))
@needs(Role.ADMIN)
async def delete_trust_rule(farm: Farm, caller: Caller, rule_id: UUID) -> None:
    """Delete a trust rule: every replica refuses its tokens within 5 seconds, and leases end by themselves."""
    await farm.trust_rules.delete(caller, rule_id)
