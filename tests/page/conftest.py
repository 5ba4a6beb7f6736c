"""Tests of the page in a real browser: `make test-page`."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from support.browser import WIDE, Visit, Watcher, open_browser
from support.page_stock import OWNER, PageFarm, page_farm
from support.postgres import fresh_database


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A browser belongs to the event loop that started it, so all tests have one loop."""
    for item in items:
        item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def stocked(postgres_url: str, template: str) -> Iterator[PageFarm]:
    """A farm that the tests only read, or change where no other test looks."""
    with fresh_database(postgres_url, template=template) as database_url, page_farm(database_url) as farm:
        yield farm


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as opened:
        yield opened


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    """At the end nothing may have been found."""
    watching = Watcher()
    yield watching
    assert watching.found() == []


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser, stocked: PageFarm, watcher: Watcher) -> AsyncIterator[Visit]:
    """Opens a browser of an operator, with cookies of its own, at a page of the farm."""
    async with AsyncExitStack() as closing:

        async def visit(operator: str | None, path: str, *, url: str = stocked.url, **options: Any) -> Page:
            context = await browser.new_context(base_url=url, **{"viewport": WIDE, **options})
            closing.push_async_callback(context.close)
            await watcher.watch(context, url)
            if operator:
                await context.add_cookies([await stocked.cookie(operator, url)])
            page = await context.new_page()
            await page.goto(path)
            return page

        yield visit


@pytest_asyncio.fixture(loop_scope="session")
async def waiters(stocked: PageFarm) -> AsyncIterator[None]:
    """Two requests that wait for the only user of a pool, as long as the test runs."""
    headers = stocked.live.http.headers
    async with httpx.AsyncClient(base_url=stocked.url, headers=headers, timeout=60, verify=False) as http:
        body = {"project": "shop", "env": "stage", "domain": "canary", "wait_seconds": 300, "owner": OWNER}
        requests = [asyncio.create_task(http.post("/api/v1/leases", json=body)) for _ in range(2)]
        async with asyncio.timeout(30):
            while len(stocked.live.get("/leases/waiting")["items"]) < len(requests):
                await asyncio.sleep(0.02)
        yield
        for request in requests:
            request.cancel()
        await asyncio.wait(requests)
