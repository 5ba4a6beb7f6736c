"""An HTTP server in a thread that answers as a test says; it serves as a farm, or as a proxy before one."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from typing_extensions import override


@dataclass(frozen=True)
class Seen:
    method: str
    target: str
    headers: dict[str, str]
    port: int
    """Of the caller: the same for all requests of one connection."""
    number: int
    """Among those of its connection."""


Answer = tuple[int, object] | None
"""Status and document; None closes the connection without an answer."""


@dataclass
class StubServer:
    url: str = ""
    requests: list[Seen] = field(default_factory=list)
    answer: Callable[[Seen], Answer] = lambda _: (200, {})
    hangs_up: bool = False
    """After each answer, and does not say so in the answer."""
    connect_to: tuple[str, int] | None = None
    """As a proxy: where CONNECT leads, whatever was asked for; else it is answered with 403."""


@contextmanager
def stub_server(tls: ssl.SSLContext | None = None) -> Iterator[StubServer]:
    stub = StubServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        count = 0

        def do_GET(self) -> None:
            self.count += 1
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = stub.answer(self._seen())
            if answer is None:
                self.close_connection = True
                return
            content = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.close_connection or stub.hangs_up

        do_POST = do_GET  # noqa: N815  the name is the library's

        def do_CONNECT(self) -> None:
            self._seen()
            self.close_connection = True
            if stub.connect_to is None:
                self.send_response(403)
                self.end_headers()
                return
            with socket.create_connection(stub.connect_to) as there:
                self.send_response(200)
                self.end_headers()
                back = Thread(target=_pump, args=(there, self.connection))
                back.start()
                _pump(self.connection, there)
                back.join()

        def _seen(self) -> Seen:
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.command, self.path, headers, self.client_address[1], self.count)
            stub.requests.append(seen)
            return seen

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """A test's output is no place for it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.daemon_threads = True
        stub.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        serving.start()
        try:
            yield stub
        finally:
            server.shutdown()
            serving.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while chunk := source.recv(65_536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other side has hung up
