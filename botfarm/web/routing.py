"""What every route of the API does before its body is read."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive
from typing_extensions import override

from botfarm import errors
from botfarm.runtime import Services
from botfarm.web.error_responses import PROBLEMS, documented

MAX_BODY_BYTES = 1_048_576

COMMON_ERRORS = (
    errors.UnauthenticatedError,
    errors.InvalidRequestError,
    errors.InternalError,
    errors.DatabaseUnavailableError,
    errors.ShuttingDownError,
)
BODY_ERRORS = (errors.MalformedJsonError, errors.TooLargeError, errors.UnsupportedMediaTypeError)


class FarmRoute(APIRoute):
    """FastAPI reads the body before it looks at dependencies; who calls is decided here, before that."""

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def authenticated(request: Request) -> Response:
            services: Services = request.app.state.services
            request.state.principal = services.authentication.principal_of(
                request.headers.get("authorization")
            )
            _require_json(request)
            return await handle(Request(request.scope, _limited(request)))

        return authenticated


def api_router(tag: str) -> APIRouter:
    return APIRouter(prefix="/api/v1", tags=[tag], route_class=FarmRoute)


def raises(*kinds: type[errors.BotfarmError], body: bool = False) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route of the API: its own errors, and those that any route may answer."""
    return documented(*kinds, *(BODY_ERRORS if body else ()), *COMMON_ERRORS)


def _limited(request: Request) -> Receive:
    """The body up to its limit. The framework's own limit answers in plain text, and before a 401."""
    left = MAX_BODY_BYTES

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(
                PROBLEMS[errors.TooLargeError][0]
            )  # FastAPI lets only these through from a body
        return message

    return receive


def _require_json(request: Request) -> None:
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if has_body and media_type != "application/json":
        raise errors.UnsupportedMediaTypeError
