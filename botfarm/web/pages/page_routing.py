"""Checks of every page before its form is read: as those of the API, answered for people."""

from asyncio import Semaphore
from contextlib import nullcontext
from typing import ClassVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartParser
from typing_extensions import override

from botfarm.errors import BotfarmError, FieldError, InvalidRequestError, UnauthenticatedError
from botfarm.web.http.error_responses import BodyRefusedError, invalid_request, problem_headers, problem_of
from botfarm.web.http.routing import FarmRoute, Handler
from botfarm.web.pages.rendering import is_fragment, render

FRAGMENTS_AT_ONCE = 4
"""A change makes the scripts of all open pages ask at once, and they must leave connections for those who acquire."""

LONGEST_NEXT = 2_000
"""Characters of the address that a sign-in leads to."""

PREFIX = "/ui"
FIRST_PAGE = f"{PREFIX}/pools"
SIGN_IN = f"{PREFIX}/sign-in"


class PageRoute(FarmRoute):
    media_type: ClassVar[str] = "application/x-www-form-urlencoded"

    @override
    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def answered(request: Request) -> Response:
            _leave_out_empty_fields(request)
            try:
                return await handle(request)
            except UnauthenticatedError as error:
                return _to_sign_in(request, error)
            except BotfarmError as error:
                return error_page(request, error)
            except RequestValidationError as error:
                return error_page(request, invalid_request(error))
            except BodyRefusedError as refused:
                return error_page(request, refused.error)
            except HTTPException:  # the framework's own: a form that cannot be read
                return error_page(
                    request, InvalidRequestError(FieldError("form", "invalid", "cannot be read"))
                )

        return answered


class LivePageRoute(PageRoute):
    """For pages that the script keeps up to date."""

    @override
    async def answer(self, handle: Handler, request: Request) -> Response:
        """A fragment waits for its turn after its caller was admitted, so that nobody else takes one."""
        turns: Semaphore = request.app.state.fragment_turns
        async with turns if request.method == "GET" and is_fragment(request) else nullcontext():
            return await handle(request)


class UploadRoute(PageRoute):
    """For a form with a file, which stays in memory: it may hold passwords."""

    media_type = "multipart/form-data"
    max_body_bytes = 16_777_216
    body_deadline = 120.0


# Starlette would write a larger file to the disk.
MultiPartParser.spool_max_size = UploadRoute.max_body_bytes


def page_router(*, route_class: type[PageRoute] = PageRoute) -> APIRouter:
    return APIRouter(
        prefix=PREFIX, route_class=route_class, include_in_schema=False, default_response_class=Response
    )


def see(address: str) -> Response:
    """After a change: the browser gets this page, so that a reload repeats nothing."""
    return RedirectResponse(address, status_code=303)


def error_page(request: Request, error: BotfarmError) -> Response:
    """The page of a problem, in the same words as the API's."""
    problem = problem_of(request, error)
    response = render(
        request,
        "error.html",
        title=problem["title"],
        status=problem["status"],
        problem=problem,
        back=page_before(request),
    )
    response.headers.update(problem_headers(error))
    return response


def page_before(request: Request) -> str:
    """The farm's page with the form or link that led here, else the first page."""
    referer = urlsplit(request.headers.get("referer", ""))
    if referer.netloc != request.headers.get("host") or referer.path == request.url.path:
        return FIRST_PAGE
    return local_page(f"{referer.path}?{referer.query}" if referer.query else referer.path)


def local_page(address: str) -> str:
    """The address when it is one of our pages, else that of the first page: a link must not lead elsewhere."""
    is_ours = address.startswith(f"{PREFIX}/") and "\\" not in address and address.isprintable()
    return address if is_ours else FIRST_PAGE


def _to_sign_in(request: Request, error: UnauthenticatedError) -> Response:
    if is_fragment(request):  # the script leads to the sign-in
        return error_page(request, error)
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        # The browser kept the session's cookie back, because a page of another site has the link. It sends the
        # cookie when our own page asks for the address again.
        return render(request, "again.html", title="One moment")
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    wanted = quote(address if request.method == "GET" else page_before(request))
    return see(f"{SIGN_IN}?next={wanted}" if len(wanted) <= LONGEST_NEXT else SIGN_IN)


def _leave_out_empty_fields(request: Request) -> None:
    """A form's field that is left empty asks for nothing."""
    given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if any(not value for _, value in given):
        query = urlencode([(name, value) for name, value in given if value])
        request.scope["query_string"] = query.encode("latin-1")
