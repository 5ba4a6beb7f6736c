from typing import Annotated

from fastapi import Query

from botfarm import errors
from botfarm.domain.access import Role, Token
from botfarm.services.access.tokens import MadeToken, default_life
from botfarm.web.api.access.access_requests import NewToken
from botfarm.web.api.access.access_responses import MadeTokenOut, TokenOut
from botfarm.web.api.shared.fields import SearchText, Text
from botfarm.web.api.shared.response_body import ListOut
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("tokens")


@router.post(
    "/tokens",
    status_code=201,
    response_model=MadeTokenOut,
    responses=raises(errors.NoSuchProjectError, body=True),
)
@needs(Role.ADMIN)
async def create_token(farm: Farm, caller: Caller, body: NewToken) -> MadeToken:
    """Make a token for a machine; this answer is the only one that shows it."""
    return await farm.tokens.create(
        caller,
        name=body.name,
        role=body.role,
        projects=body.chosen_projects,
        envs=body.chosen_envs,
        max_leases=body.max_leases,
        expires_in=body.chosen_life(default=default_life(caller)),
    )


@router.get("/tokens", response_model=ListOut[TokenOut], responses=raises())
@needs(Role.ADMIN)
async def get_tokens(
    farm: Farm,
    caller: Caller,
    created_by: Annotated[SearchText, Query(description="`token:NAME:ID` or `operator:NAME`.")] = None,
) -> dict[str, list[Token]]:
    """All tokens within your scope, those that are revoked or expired too, the newest first."""
    return {"items": await farm.tokens.list(caller.scope, created_by=created_by)}


@router.delete("/tokens/{token_id}", status_code=204, responses=raises(errors.NoSuchTokenError))
@needs(Role.ADMIN)
async def delete_token(farm: Farm, caller: Caller, token_id: Text) -> None:
    """Revoke a token on every replica, within 5 seconds; its leases end by themselves."""
    await farm.tokens.revoke(caller, token_id)
