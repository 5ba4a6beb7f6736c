"""Open pages: what they cost the process that serves them, on a quiet farm and on one that changes all the time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import uvloop

from benchmarks.client import connected
from benchmarks.database import settle
from benchmarks.farm import Farm, running_farm
from benchmarks.machine import cpu_seconds
from benchmarks.run import Run
from botfarm.services.stock.farm_changes import MAX_OWN_READERS

_FETCH_INTERVAL = 2.0
"""Seconds between two fetches of a page, as in botfarm/web/pages/static/page.js."""
_CHANGE_INTERVAL = 0.5
_SETTLED = 3.0  # seconds until nothing of the start is left
_OPENED_WITHIN = 60.0  # seconds


def measure_pages(run: Run) -> None:
    with running_farm(run.postgres, "pages", replicas=1) as farm:
        farm.add_pool("shop", run.plan.pool_sizes[0])
        settle(farm.database_url)
        run.measure("open-pages", lambda: uvloop.run(_measure(farm, run)))


async def _measure(farm: Farm, run: Run) -> None:
    plan = run.plan
    async with connected(farm.ports[0], farm.token) as caller:
        await caller.request("GET", "/pools")  # a token in use is refreshed by a query every two seconds
    without = await _use(farm, plan.idle_seconds)
    async with _open_pages(farm, plan.pages):
        quiet = await _use(farm, plan.idle_seconds)
    async with _changes(farm), _open_pages(farm, 0):
        changing_without = await _use(farm, plan.idle_seconds)
    async with _changes(farm), _open_pages(farm, plan.pages) as pages:
        fetches, began = sum(page.fetches for page in pages), time.monotonic()
        changing = await _use(farm, plan.idle_seconds)
        fetches, lasted = sum(page.fetches for page in pages) - fetches, time.monotonic() - began
    run.results.add(
        "open-pages",
        pages=plan.pages,
        cpu=quiet[0],
        cpu_without=without[0],
        queries_per_second=quiet[1] - without[1],
        cpu_changing=changing[0],
        cpu_changing_without=changing_without[0],
        queries_per_second_changing=changing[1] - changing_without[1],
        fetches_per_second=fetches / lasted,
        refused=sum(page.refused for page in pages),
    )


async def _use(farm: Farm, seconds: float) -> tuple[float, float]:
    """Share of one core that the process uses, and its queries a second."""
    (api,) = farm.apis
    await asyncio.sleep(_SETTLED)
    queries = await asyncio.to_thread(api.check_outs)
    used, began = cpu_seconds(api.process.pid), time.monotonic()
    await asyncio.sleep(seconds)
    used, lasted = cpu_seconds(api.process.pid) - used, time.monotonic() - began
    queries = await asyncio.to_thread(api.check_outs) - queries
    return used / lasted, queries / lasted


@asynccontextmanager
async def _open_pages(farm: Farm, count: int) -> AsyncIterator[list["_Page"]]:
    """Until each has been rung and has fetched for the first time. No principal may have all of them open."""
    tokens = [await farm.make_token() for _ in range(0, count, MAX_OWN_READERS)]
    pages = [_Page(farm.ports[0], tokens[number // MAX_OWN_READERS]) for number in range(count)]
    reading = [asyncio.create_task(page.read()) for page in pages]
    try:
        await asyncio.wait_for(asyncio.gather(*(page.is_read.wait() for page in pages)), _OPENED_WITHIN)
        yield pages
    finally:
        for task in reading:
            task.cancel()
        ends = await asyncio.gather(*reading, return_exceptions=True)
        broken = [end for end in ends if not isinstance(end, asyncio.CancelledError)]
        if broken:
            raise RuntimeError(f"{len(broken)} of {count} pages have ended, the first one by {broken[0]!r}")


class _Page:
    """The board of pools in a browser: a stream, and a connection for what it fetches after a bell."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        self._etag = ""
        self.fetches = self.refused = 0
        self.is_read = asyncio.Event()

    async def read(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        rung = asyncio.Event()
        fetching = asyncio.create_task(self._fetch_after(rung))
        try:
            writer.write(f"GET /ui/changes HTTP/1.1\r\n{self._head}\r\n".encode())
            status = int((await reader.readline()).split(b" ", 2)[1])
            if status != HTTPStatus.OK:
                raise RuntimeError(f"the stream was answered with {status}")
            while line := await reader.readline():
                if line.startswith(b"event: changed"):
                    rung.set()
                if fetching.done():
                    fetching.result()
        finally:
            fetching.cancel()
            writer.close()

    async def _fetch_after(self, rung: asyncio.Event) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while True:
                await rung.wait()
                rung.clear()
                await self._fetch(reader, writer)
                await asyncio.sleep(_FETCH_INTERVAL)
        finally:
            writer.close()

    async def _fetch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        about = f"X-Fragment: 1\r\nIf-None-Match: {self._etag}\r\n"
        writer.write(f"GET /ui/pools HTTP/1.1\r\n{self._head}{about}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        if status != HTTPStatus.NOT_MODIFIED:
            await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
        if status not in {HTTPStatus.OK, HTTPStatus.NOT_MODIFIED, HTTPStatus.SERVICE_UNAVAILABLE}:
            raise RuntimeError(f"the page was answered with {status}")
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            self.refused += 1
        else:
            self._etag = head.partition("\netag: ")[2].partition("\r\n")[0]
        self.fetches += 1
        self.is_read.set()


@asynccontextmanager
async def _changes(farm: Farm) -> AsyncIterator[None]:
    """A user is leased and released in turn, so that every look finds a change."""

    async def change() -> None:
        async with connected(farm.ports[0], farm.token) as runner:
            while True:
                lease = await runner.acquire("shop")
                await asyncio.sleep(_CHANGE_INTERVAL)
                await runner.release(lease)
                await asyncio.sleep(_CHANGE_INTERVAL)

    changing = asyncio.create_task(change())
    try:
        yield
    finally:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing
