"""Signing in at the company's provider: there, and back."""

from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from botfarm.errors import NoSuchPageError, SlowDownError, UnauthenticatedError
from botfarm.services.trust.provider_flow import ATTEMPT_LIFE
from botfarm.services.trust.single_sign_on import SingleSignOn
from botfarm.web.http.callers import address_of
from botfarm.web.http.dependencies import Farm
from botfarm.web.http.roles import public
from botfarm.web.http.session_cookie import SessionCookie
from botfarm.web.pages.page_routing import FIRST_PAGE, LONGEST_NEXT, PageRoute, local_page, page_router, see
from botfarm.web.pages.rendering import render
from botfarm.web.pages.sign_in_pages import sign_in_form


class SignOnRoute(PageRoute):
    """Providers lead back with parameters of their own, such as Google's `authuser` and Keycloak's `session_state`."""

    takes_any_query = True


router = page_router(route_class=SignOnRoute)

Text = Annotated[str, Query(max_length=4_096)]


@router.get("/sign-in/there")
@public
async def to_provider(
    farm: Farm,
    request: Request,
    next: Annotated[str, Field(max_length=LONGEST_NEXT)] = FIRST_PAGE,  # noqa: A002 -- the usual name
) -> Response:
    provider = _provider(farm.single_sign_on)
    try:
        attempt = await provider.begin(local_page(next))
    except UnauthenticatedError as error:
        return sign_in_form(request, next, error=error)
    response = see(attempt.address)
    _attempt_cookie(request).keep(response, attempt.cookie)
    return response


@router.get("/sign-in/return")
@public
async def from_provider(
    farm: Farm,
    request: Request,
    code: Text = "",
    state: Text = "",
) -> Response:
    """Ends with a page that leads on. A redirection from another site would not send the new session's cookie."""
    cookie = _attempt_cookie(request)
    try:
        _, badge, next_page = await _provider(farm.single_sign_on).finish(
            code=code,
            state=state,
            cookie=cookie.read(request),
            former=_session_cookie(request).read(request),
            address=address_of(request),
            request_id=request.state.request_id,
        )
    except (UnauthenticatedError, SlowDownError) as refused:
        response = sign_in_form(request, FIRST_PAGE, error=refused)
    else:
        response = render(request, "again.html", title="One moment", address=local_page(next_page))
        _session_cookie(request).set(response, badge)
    cookie.clear(response)
    return response


class _AttemptCookie:
    """What the browser keeps between the click and the return. It is sent when the provider leads back (Lax)."""

    def __init__(self, session_cookie: SessionCookie) -> None:
        self._name = f"{session_cookie.name}-attempt"
        self._secure = session_cookie.is_secure

    def read(self, request: Request) -> str | None:
        return request.cookies.get(self._name)

    def keep(self, response: Response, value: str) -> None:
        response.set_cookie(
            self._name,
            value,
            max_age=ATTEMPT_LIFE,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def clear(self, response: Response) -> None:
        response.delete_cookie(self._name, path="/", secure=self._secure, httponly=True, samesite="lax")


def _provider(provider: SingleSignOn | None) -> SingleSignOn:
    if provider is None:
        raise NoSuchPageError
    return provider


def _attempt_cookie(request: Request) -> _AttemptCookie:
    return _AttemptCookie(_session_cookie(request))


def _session_cookie(request: Request) -> SessionCookie:
    cookie: SessionCookie = request.app.state.session_cookie
    return cookie
