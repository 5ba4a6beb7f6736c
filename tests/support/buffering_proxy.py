"""A proxy that keeps an answer until it has all of it, so nothing of a stream comes through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_STREAM = b"GET /ui/changes "


@asynccontextmanager
async def buffering_proxy(url: str, *, passes_head: bool) -> AsyncIterator[str]:
    """Gives its URL. `passes_head`: the head of the answer comes through at once."""
    target = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(target.hostname, target.port)
        is_stream = asyncio.Event()

        async def pass_on() -> None:
            while chunk := await reader.read(65_536):
                if chunk.startswith(_STREAM):
                    is_stream.set()
                there_writer.write(chunk)
            there_writer.close()

        async def answer() -> None:
            while chunk := await there_reader.read(65_536):
                if not is_stream.is_set():
                    writer.write(chunk)
                elif passes_head and chunk.startswith(b"HTTP/"):
                    writer.write(chunk.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            writer.close()

        await asyncio.gather(pass_on(), answer(), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
