"""Identifies the caller by the token or, without one, by the cookie of an operator's session."""

from dataclasses import replace

from fastapi import Request, Response

from botfarm.domain.access import Principal, Role
from botfarm.errors import DatabaseUnavailableError, ForbiddenError, UnauthenticatedError
from botfarm.runtime.services import Services
from botfarm.services.access.sessions import Badge
from botfarm.web.http.session_cookie import SessionCookie, require_same_origin


async def admit(request: Request, role: Role) -> Badge | None:
    """Stores the caller in `request.state.principal`.

    Returns the session's next badge when its badge is past half of its life.

    Raises UnauthenticatedError, and ForbiddenError when the caller's role does not include `role`.
    """
    principal, badge = await _identify(request)
    request.state.principal = replace(
        principal, address=address_of(request), request_id=request.state.request_id
    )
    if not principal.role.includes(role):
        raise ForbiddenError(f"This needs the role {role}.")
    return badge


async def still_admitted(request: Request) -> None:
    """Checks the credentials of the request again, after it has read a body that took long.

    Raises UnauthenticatedError if the token or session has ended.
    """
    await _identify(request)


async def sees_everything(request: Request) -> bool:
    """Whether the caller's scope is the whole farm.

    False also without a valid token, and while the database does not answer.
    """
    try:
        principal, _ = await _identify(request)
    except (UnauthenticatedError, ForbiddenError, DatabaseUnavailableError):
        return False
    return principal.scope.is_whole


def give_badge(request: Request, response: Response, badge: Badge) -> None:
    cookie: SessionCookie = request.app.state.session_cookie
    cookie.set(response, badge)


def address_of(request: Request) -> str | None:
    return request.client.host if request.client else None


async def _identify(request: Request) -> tuple[Principal, Badge | None]:
    services: Services = request.app.state.services
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return await services.authentication.principal_of(authorization), None
    cookie: SessionCookie = request.app.state.session_cookie
    token = cookie.read(request)
    if token is None:
        raise UnauthenticatedError
    require_same_origin(request)
    return await services.sessions.authenticate(token)
