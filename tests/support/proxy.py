"""A TCP proxy before a server that a test can cut, silence, slow down, mend, and lead to another server."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        """With `tls` it is a proxy that ends TLS, without asking for it first."""
        self._tls = tls
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._whole = False
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()
        self._ended = asyncio.Event()
        self._instead = (b"", b"")
        self.delay = 0.0
        """Seconds by which each piece of either side comes later."""
        self.hidden_ends = 0

    @property
    def url(self) -> str:
        user, at, _ = self._target.netloc.rpartition("@")
        return urlunsplit(self._target._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    @property
    def connections(self) -> int:
        """Those that nobody has hung up."""
        return len(self._writers) // 2

    def aim(self, url: str) -> None:
        """Leads new connections to another server."""
        self._target = urlsplit(url)

    async def mend(self) -> None:
        """Takes connections, on the same port as before."""
        self._whole = True
        self.speak()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Accepts bytes from both sides and forwards none: a network that loses every packet."""
        self._asked.clear()
        self._answered.clear()

    def lose_answers(self) -> None:
        """Passes on what is asked, and nothing of what is answered."""
        self._answered.clear()

    def hide_ends(self) -> None:
        """Passes on what is said, but not that somebody has hung up."""
        self._ended.clear()

    def pass_instead(self, said: bytes, instead: bytes) -> None:
        """Both are of one length, because the protocol counts bytes."""
        assert len(said) == len(instead)
        self._instead = (said, instead)

    def speak(self) -> None:
        """Passes on again, what was kept back too."""
        self._asked.set()
        self._answered.set()
        self._ended.set()

    async def cut(self) -> None:
        """Resets every connection and refuses new ones."""
        self._whole = False
        if self._server:
            self._server.close()
        self.speak()  # nobody waits to pass something on
        for writer in self._writers:
            writer.transport.abort()
        while self._writers:
            await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(
                self._target.hostname, self._target.port
            )
        except OSError:
            writer.transport.abort()  # the server refuses, and so does its proxy
            return
        self._writers |= {writer, there_writer}
        if not self._whole:  # cut while this one was on its way
            writer.transport.abort()
            there_writer.transport.abort()
        try:
            await asyncio.gather(
                self._pump(reader, there_writer, self._asked),
                self._pump(there_reader, writer, self._answered),
            )
        finally:
            self._writers -= {writer, there_writer}

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, may_pass: asyncio.Event
    ) -> None:
        try:
            while chunk := await reader.read(65_536):
                await may_pass.wait()
                if self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(chunk.replace(*self._instead) if self._instead[0] else chunk)
                await writer.drain()
            if not self._ended.is_set():
                self.hidden_ends += 1
                await self._ended.wait()
        except OSError:
            writer.transport.abort()  # what one side lost, the other learns
        finally:
            writer.close()


@asynccontextmanager
async def proxy_to(url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(url, tls=tls)
    await proxy.mend()
    try:
        yield proxy
    finally:
        await proxy.cut()
