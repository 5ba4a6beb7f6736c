"""Trust rules on the page of access: made and removed."""

from typing import Annotated
from uuid import UUID

from fastapi import Form, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from botfarm.domain import trust
from botfarm.domain.access import Role
from botfarm.web.api.shared.fields import Text
from botfarm.web.api.shared.request_body import EVERYTHING
from botfarm.web.api.trust.trust_requests import NewTrustRule
from botfarm.web.api.trust.trust_routes import create_trust_rule
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import page_router, see

router = page_router()

ISSUERS = {"github": trust.GITHUB, "gitlab": trust.GITLAB}
HOUR = 3_600


@router.post("/access/trust-rules")
@needs(Role.ADMIN)
async def add_trust_rule(
    farm: Farm,
    caller: Caller,
    name: Annotated[Text, Form()],
    issuer: Annotated[Text, Form()],
    claims: Annotated[Text, Form(max_length=12_000)],
    role: Annotated[Text, Form()] = Role.RUNNER,
    project: Annotated[Text, Form()] = EVERYTHING,
    env: Annotated[Text, Form()] = EVERYTHING,
    max_leases: Annotated[int | None, Form()] = None,
    max_leases_of_all: Annotated[int | None, Form()] = None,
    hours: Annotated[int, Form(ge=1, le=12)] = 1,
    once: Annotated[bool, Form()] = False,
) -> Response:
    """`claims` has one `name=value` in a line."""
    pairs = (line.partition("=") for line in claims.splitlines() if line.strip())
    body = _checked(
        {
            "name": name,
            "issuer": ISSUERS.get(issuer, issuer),
            "claims": {claim.strip(): value.strip() for claim, _, value in pairs},
            "role": role,
            "projects": [project],
            "envs": [env],
            "max_leases": max_leases,
            "max_leases_of_all": max_leases_of_all,
            "token_ttl": hours * HOUR,
            "once": once,
        }
    )
    await create_trust_rule(farm, caller, body)
    return see("/ui/access#trust-rules")


@router.post("/access/trust-rules/{rule_id}/remove")
@needs(Role.ADMIN)
async def remove_trust_rule(farm: Farm, caller: Caller, rule_id: UUID) -> Response:
    await farm.trust_rules.delete(caller, rule_id)
    return see("/ui/access#trust-rules")


def _checked(fields: dict[str, object]) -> NewTrustRule:
    """As the API checks them. Raises RequestValidationError."""
    try:
        return NewTrustRule.model_validate(fields)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        ) from None
