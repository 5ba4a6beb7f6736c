"""GET /ui/changes on a real socket: events, who may listen, and how a stream ends."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY

from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.process.http_server import DRAIN_TIMEOUT, listen, url_of
from botfarm.services.stock import farm_changes
from botfarm.services.stock.farm_changes import FarmChanges, Reader
from botfarm.web.pages import change_stream
from botfarm.web.server import serve
from support.app import api_client, on_a_socket
from support.farm import PASSWORD, TOKEN, Farm, test_settings
from support.http import LEASE, create_project, create_user
from support.waiting import until

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
COOKIE = "botfarm-8123"
STREAM = "/ui/changes"
COUNTED = {"method": "GET", "route": STREAM}


class Events:
    """The events of an open stream."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> str | None:
        """The name of the next event, None at the end of the stream."""
        name = None
        async with asyncio.timeout(60):
            async for line in self._lines:
                if not line and name:
                    return name
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
        return None

    async def until(self, name: str | None) -> None:
        """Until this event, or with None until the end."""
        while (event := await self.next()) != name:
            assert event, "the stream has ended"


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm_changes, "INTERVAL", 0.02)


@pytest.fixture
async def url(database_url: str) -> AsyncIterator[str]:
    async with on_a_socket(test_settings(database_url, cookie_insecure=True, port=8123)) as url:
        yield url


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=ADMIN, timeout=60) as opened:
        yield opened


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> list[FarmChanges]:
    """That of the application, once for each subscription."""
    found: list[FarmChanges] = []
    subscribe = FarmChanges.subscribe

    def noting(bell: FarmChanges, principal: Principal) -> Reader:
        found.append(bell)
        return subscribe(bell, principal)

    monkeypatch.setattr(FarmChanges, "subscribe", noting)
    return found


@asynccontextmanager
async def listening(url: str, **headers: str) -> AsyncIterator[Events]:
    """A stream on a connection of its own, whose first bell has come."""
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as browser,
        browser.stream("GET", STREAM, headers=headers or ADMIN) as answer,
    ):
        assert answer.status_code == 200
        events = Events(answer)
        await events.until("changed")
        yield events


async def test_a_change_rings_the_bell_of_a_page(url: str, client: httpx.AsyncClient) -> None:
    async with listening(url) as events:
        assert events.answer.headers["content-type"].startswith("text/event-stream")
        assert events.answer.headers["cache-control"].startswith("no-store, no-transform")
        assert events.answer.headers["x-accel-buffering"] == "no"
        await create_user(client, await create_project(client))
        assert await events.next() == "changed"


async def test_a_silent_farm_gives_signs_of_life(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_stream, "SIGN_OF_LIFE", 0.05)
    async with listening(url) as events:
        assert [await events.next() for _ in range(3)] == ["alive"] * 3


async def test_only_those_who_are_signed_in_may_listen(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as stranger:
        answer = await stranger.get(STREAM)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/sign-in?next={STREAM}")
        document = (await stranger.get("/openapi.json")).json()
        assert STREAM not in document["paths"]


async def test_a_stream_ends_with_the_session(
    farm: Farm, url: str, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "SIGN_OF_LIFE", 0.05)
    await farm.services.operators.add("Ann", PASSWORD, Role.VIEWER, EVERYTHING)
    signed_in = await client.post("/auth/login", json={"name": "Ann", "password": PASSWORD})
    cookie = {"Cookie": f"{COOKIE}={signed_in.cookies[COOKIE]}"}
    async with listening(url, **cookie) as events:
        await events.until("alive")
        del client.headers["Authorization"]
        assert (await client.post("/auth/logout", headers=cookie)).is_success
        await events.until(None)


async def test_a_stream_ends_with_the_token(
    url: str, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_stream, "SIGN_OF_LIFE", 0.05)
    made = await client.post(
        "/tokens", json={"name": "eyes", "role": "viewer", "projects": ["*"], "envs": ["*"]}
    )
    async with listening(url, Authorization=f"Bearer {made.json()['token']}") as events:
        await events.until("alive")
        assert (await client.delete(f"/tokens/{made.json()['id']}")).is_success
        await events.until(None)


async def test_who_hangs_up_leaves_nothing_behind(url: str, bells: list[FarmChanges]) -> None:
    requests = REGISTRY.get_sample_value("botfarm_http_requests_total", {**COUNTED, "status": "200"}) or 0
    async with listening(url), listening(url):
        assert len(bells[0]._readers) == 2
    await until(lambda: not bells[0]._readers and bells[0]._watching is None)
    assert (
        REGISTRY.get_sample_value("botfarm_http_requests_total", {**COUNTED, "status": "200"}) == requests + 2
    )
    # How long a page was open is no duration of a request.
    assert not REGISTRY.get_sample_value("botfarm_http_request_duration_seconds_count", COUNTED)


async def test_a_page_too_many_is_told_to_poll(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm_changes, "MAX_READERS", 2)
    async with httpx.AsyncClient(base_url=url, headers=ADMIN, timeout=60) as third:
        async with listening(url), listening(url):
            refused = await third.get(STREAM)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
        async with listening(url):
            pass


async def test_shutdown_ends_streams_at_once(database_url: str) -> None:
    bound, stop = listen("127.0.0.1", 0, setting="BOTFARM_PORT"), asyncio.Event()
    up = asyncio.Event()
    serving = asyncio.create_task(serve(test_settings(database_url), bound, stop, announce=up.set))
    await asyncio.wait_for(up.wait(), 60)
    async with listening(url_of(bound)) as events:
        started = time.monotonic()
        stop.set()
        await events.until(None)
        await asyncio.wait_for(serving, 60)
        assert time.monotonic() - started < DRAIN_TIMEOUT / 2


async def test_pages_that_ask_at_once_leave_connections_for_those_who_acquire(
    farm: Farm, database_url: str
) -> None:
    """As after a bell that all of them hear."""
    holder = await asyncpg.connect(database_url)
    async with api_client(test_settings(database_url, database_pool_size=5)) as api:
        await create_user(api, await create_project(api))
        async with holder.transaction():
            await holder.execute("LOCK TABLE rollups")
            page = {"X-Fragment": "1"}
            asking = [
                asyncio.create_task(api.get("http://farm.test/ui/pools", headers=page)) for _ in range(20)
            ]
            await farm.until_blocked(4)
            answer = await asyncio.wait_for(api.post("/leases", json=LEASE), 8)
            assert answer.status_code == 201, answer.text
        assert {page.status_code for page in await asyncio.gather(*asking)} == {200}
    await holder.close()
