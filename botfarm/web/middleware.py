import re
import time
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botfarm import metrics
from botfarm.errors import InternalError
from botfarm.logs import get_logger
from botfarm.web.error_responses import problem_response

logger = get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# No page of another site may frame ours, guess what kind of thing an answer is, or be told where a person came from.
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# An answer of the API is no page, and may hold credentials.
_API_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
# The documentation page has an inline script, the framework's; everything it loads is served here.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}
_QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})


class Observed:
    """The outermost layer: a request id for each request, one log line, two metrics, and a problem for any crash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request = Request(scope)
        request_id = _request_id(request)
        request.state.request_id = request_id
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers.update(_SECURITY_HEADERS)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = "max-age=31536000"
                is_of_api = scope["path"].startswith("/api/")
                headers.update(_API_HEADERS if is_of_api else _PAGE_HEADERS)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                logger.exception("internal error")
                await problem_response(request, InternalError())(scope, receive, send_with_id)
            finally:
                _observe(request, status, time.perf_counter() - started)


def _request_id(request: Request) -> str:
    """The caller's own id when it is a plain one, so that its logs and ours can be read together."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _observe(request: Request, status: int, seconds: float) -> None:
    route = request.scope.get("route")
    template = getattr(route, "path", "unmatched")
    metrics.http_requests_total.labels(request.method, template, status).inc()
    metrics.http_request_duration_seconds.labels(request.method, template).observe(seconds)
    if template not in _QUIET:
        logger.info(
            "request",
            operation=getattr(route, "name", template),  # without the address: it may have a token in it
            method=request.method,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            principal=getattr(getattr(request.state, "principal", None), "name", None),
        )
