"""A small HTTP client on one keep-alive connection, fast enough not to distort what is measured."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str) -> None:
        self._reader = reader
        self._writer = writer
        self._head = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"

    async def request(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> tuple[int, Any]:
        self.send(method, path, body)
        return await self.answer()

    def send(self, method: str, path: str, body: Mapping[str, object] | None = None) -> None:
        content = json.dumps(body).encode() if body is not None else b""
        kind = "Content-Type: application/json\r\n" if content else ""
        head = f"{method} /api/v1{path}{self._head}{kind}Content-Length: {len(content)}\r\n\r\n"
        self._writer.write(head.encode() + content)

    async def answer(self) -> tuple[int, Any]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
        content = await self._reader.readexactly(length)
        return status, json.loads(content) if content else None

    async def acquire(self, project: str, **fields: object) -> dict[str, Any]:
        body = {"project": project, "env": "stage", **fields}
        lease: dict[str, Any] = expect(HTTPStatus.CREATED, await self.request("POST", "/leases", body))
        return lease

    async def release(self, lease: Mapping[str, Any]) -> None:
        expect(HTTPStatus.OK, await self.request("POST", f"/leases/{lease['id']}/release"))

    def close(self) -> None:
        self._writer.close()


def expect(status: int, answer: tuple[int, Any]) -> Any:
    if answer[0] != status:
        raise RuntimeError(f"{status} was expected, not {answer[0]} {answer[1]}")
    return answer[1]


@asynccontextmanager
async def connected(port: int, token: str) -> AsyncIterator[Connection]:
    connection = await connect(port, token)
    try:
        yield connection
    finally:
        connection.close()


async def connect(port: int, token: str) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port), token)
