"""Checks of every route of the API before its body is read: caller, query, media type, limits."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, ClassVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import Message, Receive
from typing_extensions import override

from botfarm import errors
from botfarm.errors import FieldError
from botfarm.web.http.callers import admit, give_badge
from botfarm.web.http.error_responses import MAX_FIELD_ERRORS, BodyRefusedError, documented, field_name
from botfarm.web.http.roles import needed_role

JSON_LINES = "application/x-ndjson"
BODY_PATIENCE = 10.0
"""Seconds without a byte, while a body is expected."""

COMMON_ERRORS = (
    errors.UnauthenticatedError,
    errors.ForbiddenError,
    errors.InvalidRequestError,
    errors.InternalError,
    errors.DatabaseUnavailableError,
    errors.ShuttingDownError,
)
BODY_ERRORS = (errors.MalformedJsonError, errors.TooLargeError, errors.UnsupportedMediaTypeError)


Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class FarmRoute(APIRoute):
    """Identifies the caller before the body is read. FastAPI reads the body before it runs dependencies."""

    media_type: ClassVar[str] = "application/json"
    max_body_bytes: ClassVar[int] = 1_048_576
    body_deadline: ClassVar[float] = 30.0
    """Seconds for the whole body, because a caller could hold the connection with a byte now and then."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.role = needed_role(endpoint)
        super().__init__(path, endpoint, **options)
        if self.role is not None:
            self.openapi_extra = {**(self.openapi_extra or {}), "x-needs-role": self.role.value}

    @override
    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        parameters = _query_parameters(self.dependant)

        async def admitted(request: Request) -> Response:
            badge = None if self.role is None else await admit(request, self.role)
            _refuse_unknown(request.query_params, parameters)
            _require_media_type(request, self.media_type)
            limited = _limited(request, self.max_body_bytes, self.body_deadline)
            response = await self.answer(handle, Request(request.scope, limited))
            if badge is not None:
                give_badge(request, response, badge)
            return response

        return admitted

    async def answer(self, handle: Handler, request: Request) -> Response:
        """Answers a request whose caller was admitted."""
        return await handle(request)


class SignInRoute(FarmRoute):
    """For anyone, so the limit is small: a name and a password with each character escaped."""

    max_body_bytes = 16_384


class JsonLinesRoute(FarmRoute):
    media_type = JSON_LINES
    max_body_bytes = 67_108_864
    body_deadline = 120.0


class ConfigurationRoute(FarmRoute):
    max_body_bytes = 16_777_216


def api_router(tag: str, *, route_class: type[FarmRoute] = FarmRoute) -> APIRouter:
    return APIRouter(prefix="/api/v1", tags=[tag], route_class=route_class)


def raises(*kinds: type[errors.BotfarmError], body: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route of the API: its own errors, and those that any route may answer."""
    return documented(*kinds, *(BODY_ERRORS if body else ()), *COMMON_ERRORS)


def _limited(request: Request, max_bytes: int, seconds: float) -> Receive:
    """Receives the body up to its limits.

    The framework's own limit would answer in plain text, and before a 401.
    """
    left, more = max_bytes, True
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds

    async def receive() -> Message:
        nonlocal left, more
        try:
            # Once the body is complete, the next message is the end of the connection, which may take any
            # time.
            async with asyncio.timeout_at(min(clock() + BODY_PATIENCE, deadline) if more else None):
                message = await request.receive()
        except TimeoutError:
            raise BodyRefusedError(errors.MalformedJsonError("The body did not arrive in time.")) from None
        more = message.get("more_body", False)
        left -= len(message.get("body", b""))
        if left < 0:
            raise BodyRefusedError(errors.TooLargeError())
        return message

    return receive


def _query_parameters(dependant: Dependant) -> frozenset[str]:
    """The names that a route and its dependencies read from the query."""
    own = frozenset(parameter.alias for parameter in dependant.query_params)
    return own.union(*(_query_parameters(dependency) for dependency in dependant.dependencies))


def _refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Raises InvalidRequestError, because a misspelled filter must not list everything."""
    unknown = [
        FieldError(field_name((name,)), "extra_forbidden", "No such parameter")
        for name in given
        if name not in known
    ]
    if unknown:
        raise errors.InvalidRequestError(*unknown[:MAX_FIELD_ERRORS])


def _require_media_type(request: Request, required: str) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type != required:
        raise errors.UnsupportedMediaTypeError
