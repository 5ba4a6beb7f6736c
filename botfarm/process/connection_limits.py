"""Limits for connections before authentication: size and time of a request's head, and number of connections.

uvicorn has no such limits. They hold before a token was shown. Bodies are limited by the application.
"""

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from botfarm import metrics

LINGER = 1.0
"""Seconds in which a refused client may still send, because a close with unread bytes can lose the answer."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    connections: int = 1_000
    """Of one server.

    A further connection closes the one that has been idle, or kept from writing, for longest.
    """
    head_bytes: int = 65_536
    """Request line and header fields together; as much again for the trailers of a chunked body."""
    head_fields: int = 128
    """Browsers and proxies send about thirty. A field of five bytes takes 150 bytes in memory."""
    requests_ahead: int = 16
    """Requests that a client may send before the first one is answered (pipelining).

    Each takes some kilobytes.
    """
    head_seconds: float = 10.0
    """Seconds from the connection, or from the first byte of a later request, to the end of the head."""
    unread_seconds: float = 30.0
    """Seconds in all for which the peer may keep the server from writing, until every request is answered."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection that answers a request, or is idle.

    An idle connection waits for a head, or for the rest of a body that was answered already.
    """

    def __init__(
        self,
        *args: Any,
        limits: ConnectionLimits,
        evictable: OrderedDict["LimitedProtocol", None],
        **kwargs: Any,
    ) -> None:
        """`evictable` holds the connections that wait for their peer, the longest wait first.

        These are idle connections, and connections whose peer does not read.
        """
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._evictable = evictable
        self.headers = []
        self._deadline: asyncio.TimerHandle | None = None
        self._unread_deadline: asyncio.TimerHandle | None = None
        self._unread_seconds = limits.unread_seconds  # seconds that are left
        self._unframed = 0  # bytes since the last head, piece of a body or end of a request
        self._unanswered = 0  # requests; more than one when the client sends ahead
        self._in_body = False
        self._is_refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._evictable[self] = None
        self._set_deadline()
        if len(self.connections) > self._limits.connections:
            waits_longest, _ = self._evictable.popitem(last=False)
            waits_longest.close_as("too_many")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._evictable.pop(self, None)
        self._drop_deadline()
        self._stop_unread_clock()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        while data and not self._is_refused:
            room = self._limits.head_bytes - self._unframed
            piece, data = data[:room], data[room:]
            self._unframed += len(piece)
            super().data_received(piece)
            if self._unframed >= self._limits.head_bytes or self._has_too_many_fields():
                self._refuse()
            if data and self.transport.is_closing():
                return
        if not self._is_refused and not self._unanswered:
            self._await_more()

    @override
    def on_message_begin(self) -> None:
        # 1, because the request may begin in the piece of data that ends the request before it.
        self._unframed = self._unframed or 1
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        if self._has_too_many_fields() or self._unanswered == self._limits.requests_ahead:
            self._refuse()
        if self._is_refused:
            return
        self._drop_deadline()
        if self._unread_deadline is None:
            self._evictable.pop(self, None)
            if not self._unanswered:
                self._unread_seconds = self._limits.unread_seconds
        self._unframed = 0
        self._unanswered += 1
        self._in_body = True
        super().on_headers_complete()
        # uvicorn would add the trailers to the headers. The proxy that removes forged headers does not look
        # at trailers.
        self.headers = []

    @override
    def on_body(self, body: bytes) -> None:
        self._unframed = 0
        if self._in_body:
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if not self._in_body:
            return
        self._unframed = 0
        self._in_body = False
        super().on_message_complete()
        if not self._unanswered:
            self._forget_request()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._unanswered -= 1
        if self._unanswered:
            return
        self._evictable[self] = None
        if self._unframed or self._in_body:
            self._set_deadline()
        if not self._in_body:
            self._forget_request()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_deadline is None:
            self._evictable[self] = None
            self._unread_deadline = self.loop.call_later(self._unread_seconds, self.close_as, "too_slow")

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread_clock()
        if self._unanswered:
            self._evictable.pop(self, None)

    def close_as(self, reason: str) -> None:
        """Closes without sending what is unwritten.

        A peer that does not read would hold its place for as long as it likes.
        """
        metrics.connections_closed_total.labels(reason).inc()
        self.transport.abort()

    def _has_too_many_fields(self) -> bool:
        return len(self.headers) > self._limits.head_fields

    def _await_more(self) -> None:
        """Starts a timer again.

        Any byte ends uvicorn's timer for idle connections, even one that begins no request.
        """
        if self._unframed or self._in_body:
            if self._deadline is None:
                self._set_deadline()
        else:
            self._drop_deadline()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _forget_request(self) -> None:
        """Frees the last request's head and body, because there may be thousands of idle connections."""
        self.cycle = None  # type: ignore[assignment]
        if not self._unframed:  # else both belong to the next head, which has begun
            self.url = b""
            self.scope = None  # type: ignore[assignment]

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(self._limits.head_seconds, self.close_as, "too_slow")

    def _drop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_unread_clock(self) -> None:
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
            self._unread_seconds = max(0.0, self._unread_deadline.when() - self.loop.time())
            self._unread_deadline = None

    def _refuse(self) -> None:
        """Answers 431 if the client reads that next. If another answer comes first, only closes."""
        if self._is_refused:
            return
        self._is_refused = True
        self._drop_deadline()
        self.headers, self.url = [], b""
        if self._unanswered > 1 or (self._unanswered and not self._in_body) or self._has_begun_to_answer():
            self.close_as("too_large")
            return
        if self._in_body:  # the handler reads the body and has no caller any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        metrics.connections_closed_total.labels("too_large").inc()
        self.transport.write(_too_large())
        self.transport.write_eof()
        self._deadline = self.loop.call_later(LINGER, self.transport.abort)

    def _has_begun_to_answer(self) -> bool:
        return self._in_body and self.cycle.response_started


def _too_large() -> bytes:
    request_id = uuid4().hex
    problem = {
        "type": "urn:botfarm:problem:too-large",
        "title": "Too large",
        "status": 431,
        "detail": "The request line and the header fields, or the trailers, are over 64 KiB or 128 fields.",
        "request_id": request_id,
    }
    content = json.dumps(problem)
    return (
        "HTTP/1.1 431 Request Header Fields Too Large\r\n"
        "content-type: application/problem+json\r\n"
        f"content-length: {len(content)}\r\n"
        f"x-request-id: {request_id}\r\n"
        "cache-control: no-store\r\n"
        "x-content-type-options: nosniff\r\n"
        "connection: close\r\n"
        f"\r\n{content}"
    ).encode()
