import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from botfarm.process.write_gathering import OneWriteProtocol

REQUEST = b"GET / HTTP/1.1\r\nHost: farm.test\r\n\r\n"


class RecordingTransport(asyncio.Transport):
    """In the kernel's place."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes: list[bytes] = []
        self.is_closed_after: int | None = None

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed_after = len(self.writes)

    def is_closing(self) -> bool:
        return self.is_closed_after is not None


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    length = str(len(b"a user")).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": b"a user"})


async def answered(*requests: bytes) -> RecordingTransport:
    transport = RecordingTransport()
    config = uvicorn.Config(app, log_config=None)
    config.load()
    protocol = OneWriteProtocol(config, server_state=ServerState(), app_state={})
    protocol.connection_made(transport)
    for request in requests:
        protocol.data_received(request)
        async with asyncio.timeout(60):
            while not transport.writes or not transport.writes[-1].endswith(b"a user"):
                await asyncio.sleep(0)
    protocol.connection_lost(None)
    return transport


async def test_an_answer_is_one_write() -> None:
    transport = await answered(REQUEST)
    (write,) = transport.writes
    assert write.startswith(b"HTTP/1.1 200 OK\r\n")
    assert write.endswith(b"\r\n\r\na user")


async def test_a_connection_is_closed_after_its_last_answer() -> None:
    transport = await answered(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert transport.is_closed_after == len(transport.writes) == 1
