"""A real server with the event loop of the commands, and sockets that send it what no HTTP library would."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

from botfarm.process.connection_limits import ConnectionLimits
from botfarm.process.http_server import HttpServer, listen

GET = b"GET %s HTTP/1.1\r\n\r\n"


@dataclass(frozen=True)
class RawServer:
    address: tuple[str, int]
    parked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released by each request to /park that has come."""
    answered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """Released by each answer that is off the application's hands."""

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def answer_to(self, *sent: bytes) -> httpx.Response:
        """The one answer to what is sent along a connection, which the server then closes."""
        with self.connect() as connection:
            sending = threading.Thread(target=_send, args=(connection, sent))
            sending.start()
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        sending.join()
        return _parsed(received)

    def get(self, path: bytes = b"/") -> httpx.Response:
        return self.answer_to(b"GET %s HTTP/1.1\r\nConnection: close\r\n\r\n" % path)


def ask(connection: socket.socket, request: bytes = GET % b"/") -> int:
    """The status of the answer; the connection stays open. The answer must arrive in one piece."""
    connection.sendall(request)
    return _parsed(connection.recv(65_536)).status_code


def is_closed(connection: socket.socket) -> bool:
    """Waits up to the timeout of the socket."""
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def _send(connection: socket.socket, parts: tuple[bytes, ...]) -> None:
    with suppress(OSError):  # refused: the answer says why
        for part in parts:
            connection.sendall(part)


def _parsed(received: bytes) -> httpx.Response:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)


async def _until_gone(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@contextmanager
def raw_server(limits: ConnectionLimits) -> Iterator[RawServer]:
    """A server that answers with the names of the request's headers.

    /large answers with 20 MB. /body reads the body first. /park waits for a request of /free, or until its
    caller hangs up.
    """
    up = threading.Event()
    listening = listen("127.0.0.1", 0, setting="BOTFARM_PORT")
    raw = RawServer(listening.getsockname())
    free = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        if scope["path"] == "/body":
            while (await receive()).get("more_body"):
                pass
        elif scope["path"] == "/park":
            raw.parked.release()
            waits = [asyncio.create_task(free.wait()), asyncio.create_task(_until_gone(receive))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        elif scope["path"] == "/free":
            free.set()
        body = b" ".join(name for name, _ in scope["headers"])
        if scope["path"] == "/large":
            body = bytes(20_000_000)
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0)  # it is written at the end of a turn
        await send({"type": "http.response.body"})  # waits until most of it has gone
        raw.answered.release()

    server = HttpServer(app, announce=up.set, limits=limits)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvicorn.Config("", log_config=None).get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listening]))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(10)
        yield raw
    finally:
        server.should_exit = True
        thread.join()
