"""Signing in and out, and the way to the first page."""

from typing import Annotated

from fastapi import Form, Request, Response
from pydantic import Field, SecretStr

from botfarm.errors import SlowDownError, UnauthenticatedError
from botfarm.runtime.services import Services
from botfarm.web.http.callers import address_of
from botfarm.web.http.dependencies import Farm
from botfarm.web.http.error_responses import PROBLEMS, problem_headers
from botfarm.web.http.roles import public
from botfarm.web.http.session_cookie import SessionCookie, require_same_origin
from botfarm.web.pages.page_routing import (
    FIRST_PAGE,
    LONGEST_NEXT,
    SIGN_IN,
    PageRoute,
    local_page,
    page_router,
    see,
)
from botfarm.web.pages.rendering import render


class SignInPageRoute(PageRoute):
    """For anyone, so the limit is small."""

    max_body_bytes = 16_384


router = page_router(route_class=SignInPageRoute)

Address = Annotated[str, Field(max_length=LONGEST_NEXT)]


@router.get("/sign-in")
@public
async def sign_in_page(request: Request, next: Address = FIRST_PAGE) -> Response:  # noqa: A002 -- the usual name
    return sign_in_form(request, next)


@router.post("/sign-in")
@public
async def sign_in(
    farm: Farm,
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[SecretStr, Form(max_length=1_024)],
    next: Annotated[Address, Form()] = FIRST_PAGE,  # noqa: A002
) -> Response:
    """A session that the browser still has ends, because it is forgotten here."""
    require_same_origin(request)
    try:
        _, badge = await farm.sessions.login(
            name,
            password.get_secret_value(),
            address=address_of(request),
            request_id=request.state.request_id,
            former=_cookie(request).read(request),
        )
    except (UnauthenticatedError, SlowDownError) as error:
        return sign_in_form(request, next, name, error)
    response = see(local_page(next))
    _cookie(request).set(response, badge)
    return response


@router.post("/sign-out")
@public
async def sign_out(farm: Farm, request: Request) -> Response:
    require_same_origin(request)
    cookie = _cookie(request)
    token = cookie.read(request)
    if token is not None:
        await farm.sessions.logout(token, address=address_of(request), request_id=request.state.request_id)
    response = see(SIGN_IN)
    cookie.clear(response)
    return response


def sign_in_form(
    request: Request, address: str, name: str = "", error: UnauthenticatedError | SlowDownError | None = None
) -> Response:
    services: Services = request.app.state.services
    provider = services.single_sign_on
    status = PROBLEMS[type(error)][0] if error else 200
    response = render(
        request,
        "sign_in.html",
        title="Sign in",
        status=status,
        next=address,
        name=name,
        error=error,
        provider=provider.name if provider else None,
    )
    response.headers.update(problem_headers(error) if error else {})
    return response


def _cookie(request: Request) -> SessionCookie:
    cookie: SessionCookie = request.app.state.session_cookie
    return cookie
