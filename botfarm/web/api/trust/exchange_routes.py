"""The token exchange of RFC 8693: a form comes in, and errors are those of OAuth 2.0, as its clients expect."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Form, Request, Response
from fastapi.responses import JSONResponse

from botfarm import errors
from botfarm.services.trust.identity_tokens import RefusedError
from botfarm.web.api.trust.trust_responses import ExchangedTokenOut, ExchangeRefusedOut
from botfarm.web.http.callers import address_of
from botfarm.web.http.dependencies import Farm
from botfarm.web.http.error_responses import documented
from botfarm.web.http.roles import public
from botfarm.web.http.routing import FormRoute, api_router

router = api_router("auth", route_class=FormRoute)

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  a name
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a name
Refusal = Literal["invalid_request", "invalid_grant", "invalid_target"]
REFUSED = "The identity token is refused; the farm's audit has the reason."


@router.post(
    "/auth/token",
    response_model=ExchangedTokenOut,
    responses={
        **documented(
            errors.TooLargeError,
            errors.UnsupportedMediaTypeError,
            errors.InvalidRequestError,
            errors.SlowDownError,
            errors.InternalError,
            errors.DatabaseUnavailableError,
            errors.ShuttingDownError,
        ),
        400: {"model": ExchangeRefusedOut, "description": "invalid_request, invalid_grant, invalid_target"},
    },
)
@public
async def exchange_token(
    farm: Farm,
    request: Request,
    grant_type: Annotated[str, Form(description=f"`{GRANT}`")] = "",
    subject_token: Annotated[str, Form(description="The identity token that the CI gave to the run.")] = "",
    subject_token_type: Annotated[str, Form(description=f"`{JWT}`")] = "",
    requested_token_type: Annotated[str, Form(description=f"`{ACCESS_TOKEN}`, if given.")] = "",
    audience: Annotated[str, Form(description="The farm's public URL, if given.")] = "",
) -> Response | dict[str, object]:
    """Exchange the identity token of a CI's run for a token of the farm, by its trust rules (RFC 8693)."""
    if grant_type != GRANT:
        return _refusal("invalid_request", f"grant_type is {GRANT}")
    if not subject_token or subject_token_type not in {JWT, ID_TOKEN}:
        return _refusal("invalid_request", f"subject_token is a JWT, and subject_token_type is {JWT}")
    if requested_token_type not in {"", ACCESS_TOKEN}:
        return _refusal("invalid_request", f"requested_token_type is {ACCESS_TOKEN}, or absent")
    if audience and not farm.token_exchange.is_for(audience):
        return _refusal("invalid_target", "audience is the public URL of this farm, or absent")
    try:
        given = await farm.token_exchange.exchange(
            subject_token, address=address_of(request), request_id=request.state.request_id
        )
    except RefusedError:
        return _refusal("invalid_grant", REFUSED)
    return {
        "access_token": given.written,
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": given.expires_in,
    }


def _refusal(error: Refusal, description: str) -> Response:
    body = ExchangeRefusedOut(error=error, error_description=description)
    return JSONResponse(body.model_dump(), status_code=HTTPStatus.BAD_REQUEST)
