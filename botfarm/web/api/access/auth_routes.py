from fastapi import Request, Response

from botfarm import errors
from botfarm.domain.access import Session
from botfarm.web.api.access.access_requests import SignIn
from botfarm.web.api.access.access_responses import SessionOut, SignedOut
from botfarm.web.http.callers import address_of
from botfarm.web.http.dependencies import Farm
from botfarm.web.http.roles import public
from botfarm.web.http.routing import SignInRoute, api_router, raises
from botfarm.web.http.session_cookie import SessionCookie, require_same_origin

router = api_router("auth", route_class=SignInRoute)


@router.post("/auth/login", response_model=SessionOut, responses=raises(errors.SlowDownError, body=True))
@public
async def login(farm: Farm, body: SignIn, request: Request, response: Response) -> Session:
    """Sign an operator in: the session is a cookie, for 12 hours at most. A sent cookie's session ends."""
    require_same_origin(request)
    cookie = _cookie(request)
    session, badge = await farm.sessions.login(
        body.name,
        body.password.get_secret_value(),
        address=address_of(request),
        request_id=_request_id(request),
        former=cookie.read(request),
    )
    cookie.set(response, badge)
    return session


@router.post("/auth/logout", response_model=SignedOut, responses=raises())
@public
async def logout(farm: Farm, request: Request, response: Response) -> SignedOut:
    """End the session, if there is one, and clear its cookie."""
    require_same_origin(request)  # also without a cookie, because the answer clears it
    cookie = _cookie(request)
    token = cookie.read(request)
    if token is not None:
        await farm.sessions.logout(token, address=address_of(request), request_id=_request_id(request))
    cookie.clear(response)
    return SignedOut()


def _cookie(request: Request) -> SessionCookie:
    cookie: SessionCookie = request.app.state.session_cookie
    return cookie


def _request_id(request: Request) -> str:
    request_id: str = request.state.request_id
    return request_id
