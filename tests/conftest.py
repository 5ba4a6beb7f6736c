import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial

import httpx
import pytest
from hypothesis import settings

from botfarm.crypto import totp
from botfarm.db.postgres import engine
from botfarm.logs import configure_logging
from botfarm.runtime import database_connections
from botfarm.runtime.startup import migrate
from botfarm.services.shared.shutdown import Shutdown
from support.app import api_client
from support.code_clock import CodeClock
from support.compiled_statements import CompiledStatements
from support.farm import Farm, open_farm, test_settings
from support.postgres import fresh_database, server_url
from support.processes import end_fork_server, heed_signals

# httpcore looks for it several times in each asynchronous request, in all folders for modules.
sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]

# How long an example takes says how busy the machine is.
settings.register_profile("without a deadline", deadline=None)
settings.load_profile("without a deadline")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: tests wait for a good part of their time."""
    return min(4, (os.cpu_count() or 1) + 1)


@pytest.fixture(scope="session", autouse=True)
def _surroundings() -> Iterator[None]:
    """The same for everybody: our log format, and no setting of the person who runs the tests."""
    configure_logging("INFO", terminal=False)
    heed_signals()
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("BOTFARM_") and not name.startswith(("BOTFARM_TEST_", "BOTFARM_HYPOTHESIS_")):
                patch.delenv(name)
        patch.delenv("GITHUB_ACTIONS", raising=False)  # there, secrets are printed, to be masked
        cached = partial(
            engine.create_async_engine, execution_options={"compiled_cache": CompiledStatements()}
        )
        patch.setattr(engine, "create_async_engine", cached)
        yield
    end_fork_server()


@pytest.fixture(autouse=True)
def _patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a first connection, and any statement, may take longer than callers are let wait for them.

    What is about that patience is marked `impatient`, and has the one of the service.
    """
    if request.node.get_closest_marker("impatient") is None:
        monkeypatch.setattr(engine, "CHECK_OUT_PATIENCE", 10.0)
        monkeypatch.setattr(database_connections, "REQUEST_PATIENCE", 15.0)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with server_url() as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        asyncio.run(migrate(test_settings(url)))
        yield url.rpartition("/")[2]


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """A database without our schema."""
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """A database with the schema and nothing in it, as the owner of the tables."""
    with fresh_database(postgres_url, template=template) as url:
        yield url


@pytest.fixture
def code_clock(monkeypatch: pytest.MonkeyPatch) -> CodeClock:
    clock = CodeClock()
    monkeypatch.setattr(totp, "time", clock)

    async def pause(_: Shutdown, seconds: float) -> None:
        await clock.pause(seconds)

    monkeypatch.setattr(Shutdown, "pause", pause)
    return clock


@pytest.fixture
async def farm(database_url: str) -> AsyncIterator[Farm]:
    async with open_farm(database_url) as opened:
        yield opened


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The application on the test's database."""
    async with api_client(test_settings(database_url)) as client:
        yield client
