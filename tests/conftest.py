import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest

from botfarm.db.schema import migrate
from botfarm.logs import configure_logging
from botfarm.web.app import create_app
from support.farm import TOKEN, Farm, open_farm, test_settings
from support.postgres import fresh_database, server_url


@pytest.fixture(scope="session", autouse=True)
def _logging() -> None:
    configure_logging("INFO", terminal=False)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with server_url() as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        asyncio.run(migrate(url))
        yield url.rpartition("/")[2]


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """A database without our schema."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A database with the schema and nothing in it."""
    with fresh_database(postgres_url, template=template) as url:
        yield url


@pytest.fixture
async def farm(database_url: str) -> AsyncIterator[Farm]:
    async with open_farm(database_url) as opened:
        yield opened


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application on the test's database, asked by somebody with the bootstrap token."""
    app = create_app(test_settings(database_url))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
            base_url="http://farm.test/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        yield await stack.enter_async_context(client)
