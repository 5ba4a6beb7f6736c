"""A TCP proxy before PostgreSQL that a test can cut, silence and mend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    def __init__(self, database_url: str) -> None:
        self._target = urlsplit(database_url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._whole = False
        self._heard = asyncio.Event()

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@127.0.0.1:{self._port}"))

    async def mend(self) -> None:
        """Takes connections, on the same port as before."""
        self._whole = True
        self._heard.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Takes what is sent and passes nothing on, in either direction: a network that loses every packet."""
        self._heard.clear()

    def speak(self) -> None:
        """Passes on again, what was kept back too."""
        self._heard.set()

    async def cut(self) -> None:
        """Resets every connection and refuses new ones."""
        self._whole = False
        if self._server:
            self._server.close()
        self._heard.set()  # nobody waits to pass something on
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers |= {writer, there_writer}
        if not self._whole:  # cut while this one was on its way
            writer.transport.abort()
            there_writer.transport.abort()
        try:
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            self._writers -= {writer, there_writer}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65_536):
                await self._heard.wait()
                writer.write(chunk)
                await writer.drain()
        except OSError:
            writer.transport.abort()  # what one side lost, the other learns
        finally:
            writer.close()


@asynccontextmanager
async def proxy_to(database_url: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(database_url)
    await proxy.mend()
    try:
        yield proxy
    finally:
        await proxy.cut()
