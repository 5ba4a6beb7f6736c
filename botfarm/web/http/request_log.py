"""The outermost layer of the application: request ids, security headers, log lines and metrics."""

import asyncio
import functools
import logging
import re
import time
from uuid import uuid4

import structlog
from fastapi import Request
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botfarm import metrics
from botfarm.errors import InternalError, ShuttingDownError
from botfarm.logs import get_logger, log_often
from botfarm.web.http.error_responses import problem_response
from botfarm.web.http.metric_labels import method_of, template_of

logger = get_logger(__name__)
_log = logging.getLogger(__name__)  # for its level, which is cheap to ask for

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# A page of another site must not frame our pages, sniff an answer's type, or see the referrer.
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# An answer of the API is no page and may hold credentials: it is not cached and runs no scripts.
_API_HEADERS = (
    *_SECURITY_HEADERS,
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
# FastAPI's documentation page has an inline script; everything that it loads is served here.
_PAGE_HEADERS = (
    *_SECURITY_HEADERS,
    (
        b"content-security-policy",
        (
            b"default-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
            b"frame-ancestors 'none'"
        ),
    ),
)
# The farm's pages load only what the farm serves, run no inline script or style, and stand in a window of their own.
# A form sends where it comes from to the farm itself, which browsers would else hide from its check.
_UI_HEADERS = (
    *(header for header in _SECURITY_HEADERS if header[0] != b"referrer-policy"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
    ),
)
_HTTPS_HEADERS = ((b"strict-transport-security", b"max-age=31536000"),)
_QUIET = frozenset({"/livez", "/readyz", "/startupz", "/metrics"})
# Lasts as long as somebody looks at a page.
_UNTIMED = frozenset({"/ui/changes"})


class RequestLog:
    """The outermost layer. Turns a crash into a problem.

    Gives each request an id, security headers, a log line and two metrics.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    *_headers_of(scope["path"]),
                    *(_HTTPS_HEADERS if scope["scheme"] == "https" else ()),
                ]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # The process ends at once, at a second signal or because the request took too long. The server would answer
            # 500. A stream that has begun is cut by it, so that nobody takes it for whole.
            if status is not None:
                raise
            await problem_response(Request(scope), ShuttingDownError())(scope, receive, send_with_id)
        except Exception:
            logger.exception("internal error")
            if status is None:
                await problem_response(Request(scope), InternalError())(scope, receive, send_with_id)
        finally:
            _observe(scope, status or 500, time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("request_id")


def _headers_of(path: str) -> tuple[tuple[bytes, bytes], ...]:
    if path.startswith("/api/"):
        return _API_HEADERS
    return _UI_HEADERS if path == "/ui" or path.startswith("/ui/") else _PAGE_HEADERS


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-ID if it is a plain one, else a new id.

    With the same id, the caller's logs and the farm's can be read together.
    """
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return uuid4().hex


def _observe(scope: Scope, status: int, seconds: float) -> None:
    route = scope.get("route")
    template, method = template_of(scope), method_of(scope)
    requests, duration = _series(method, template, status)
    requests.inc()
    if template not in _UNTIMED:
        duration.observe(seconds)
    if template not in _QUIET and _log.isEnabledFor(logging.INFO):
        log_often(
            _log,
            "request",
            operation=getattr(route, "name", template),  # without the address: it may have a token in it
            method=method,
            status=status,
            milliseconds=round(seconds * 1000, 1),
            principal=getattr(scope["state"].get("principal"), "name", None),
            request_id=scope["state"]["request_id"],
        )


@functools.cache
def _series(method: str, template: str, status: int) -> tuple[Counter, Histogram]:
    return (
        metrics.http_requests_total.labels(method, template, status),
        metrics.http_request_duration_seconds.labels(method, template),
    )
