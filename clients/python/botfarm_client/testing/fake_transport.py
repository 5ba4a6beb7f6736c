"""Transports to a fake farm: in memory, for both clients of httpx, and over a local socket."""

import asyncio
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
from typing_extensions import override

from botfarm_client.testing.fake_api import Answered, Asked

Answer = Callable[[Asked], Answered]


class NotAnsweredError(Exception):
    """The failure that a fake farm was told to have: refused, or the answer is lost."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__()
        self.refused = refused


class FakeTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._response(request, is_gone=lambda: False)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        gone = threading.Event()
        try:
            return await asyncio.to_thread(self._response, request, is_gone=gone.is_set)
        finally:
            gone.set()

    def _response(self, request: httpx.Request, *, is_gone: Callable[[], bool]) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.url.path, headers, request.read(), is_gone)
        try:
            answered = self._answer(asked)
        except NotAnsweredError as error:
            if error.refused:
                raise httpx.ConnectError("connection refused", request=request) from None
            raise httpx.ReadError("connection reset", request=request) from None
        return httpx.Response(
            answered.status, json=answered.document, headers=dict(answered.headers), request=request
        )


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """Starts the server. Returns its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:  # the name is the library's
            length = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(
                self.command,
                self.path,
                headers,
                self.rfile.read(length),
                lambda: _has_hung_up(self.connection),
            )
            try:
                answered = answer(asked)
            except NotAnsweredError:
                self.close_connection = True
                return
            content = json.dumps(answered.document).encode()
            self.send_response(answered.status)
            for name, value in {**answered.headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_POST  # noqa: N815

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Logs nothing, to keep a test's output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        serving_thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        serving_thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving_thread.join()


def _has_hung_up(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""
