"""Who may do what: tokens of machines, which are made and revoked here, trusted CIs, and operators."""

from typing import Annotated

from fastapi import Form, Request, Response

from botfarm.domain.access import Role
from botfarm.domain.projects import envs_of
from botfarm.services.access.tokens import MadeToken, default_life
from botfarm.web.api.shared.fields import ShortName, Text, TokenName
from botfarm.web.api.shared.request_body import EVERYTHING
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import page_router, see
from botfarm.web.pages.rendering import render

router = page_router()

DAY = 86_400


@router.get("/access")
@needs(Role.ADMIN)
async def access_page(farm: Farm, caller: Caller, request: Request) -> Response:
    return await _access(farm, caller, request)


@router.post("/access/tokens")
@needs(Role.ADMIN)
async def make_token(
    farm: Farm,
    caller: Caller,
    request: Request,
    name: Annotated[TokenName, Form()],
    role: Annotated[Role, Form()],
    project: Annotated[Text, Form()] = EVERYTHING,
    env: Annotated[ShortName | None, Form()] = None,
    max_leases: Annotated[int | None, Form(ge=1, le=1_000_000)] = None,
    days: Annotated[int | None, Form(ge=1, le=3_650)] = None,
) -> Response:
    """Answers with the page that shows the token, and no redirection, because nothing keeps the token."""
    made = await farm.tokens.create(
        caller,
        name=name,
        role=role,
        projects=None if project == EVERYTHING else [project],
        envs=None if env is None else [env],
        max_leases=max_leases,
        expires_in=days * DAY if days else default_life(caller),
    )
    return await _access(farm, caller, request, made)


@router.post("/access/tokens/{token_id}/revoke")
@needs(Role.ADMIN)
async def revoke_token(farm: Farm, caller: Caller, token_id: Text) -> Response:
    await farm.tokens.revoke(caller, token_id)
    return see("/ui/access")


async def _access(farm: Farm, caller: Caller, request: Request, made: MadeToken | None = None) -> Response:
    projects = await farm.projects.list(caller.scope)
    return render(
        request,
        "access.html",
        title="Access",
        made=made,
        trust_rules=await farm.trust_rules.list(caller.scope),
        tokens=await farm.tokens.list(caller.scope),
        operators=await farm.operators.list(caller.scope),
        projects=projects,
        envs=envs_of(projects) if caller.scope.envs is None else sorted(caller.scope.envs),
    )
