"""Suites that record, replay and mock HTTP with the real tools: none of them sees the client's requests."""

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typing_extensions import override

from support.farm import PASSWORD, TOKEN
from support.live_farm import LiveFarm, live_farm

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
ONLY_OURS = ("-p", "no:cacheprovider", "-p", "botfarm_client.pytest_plugin")
RENEWED = """
import asyncio
import os
import time
import httpx
import pytest

SHOP = os.environ["SHOP_URL"]

def renewed(lease):
    left, deadline = lease.expires_in, time.monotonic() + 20
    while lease.expires_in <= left:
        assert time.monotonic() < deadline, "the lease was not renewed"
        left = lease.expires_in
        time.sleep(0.02)
    lease.check()
    return lease.user.login

async def renewed_in_tasks():
    from botfarm_client import AsyncBotfarm
    async with AsyncBotfarm() as farm, farm.lease(ttl=2) as lease:
        return await asyncio.to_thread(renewed, lease)

async def ping():
    async with httpx.AsyncClient() as client:
        return (await client.get(SHOP)).json()
"""


class _Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"real": true}')

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing, to keep a test's output clean."""


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


@pytest.fixture
def shop() -> Iterator[ThreadingHTTPServer]:
    """The system under test, which a suite records or mocks."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Shop) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@pytest.fixture
def run(
    farm: LiveFarm, shop: ThreadingHTTPServer, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> Run:
    for name, value in farm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BOTFARM_ENV", "stage")
    monkeypatch.setenv("SHOP_URL", f"http://127.0.0.1:{shop.server_port}/")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run_suite(suite: str, *options: str, project: str) -> pytest.RunResult:
        pytester.makepyfile(test_suite=RENEWED + suite)
        monkeypatch.setenv("BOTFARM_PROJECT", project)
        return pytester.runpytest_subprocess(*ONLY_OURS, *options)

    return run_suite


def ended(farm: LiveFarm, project: str) -> list[str]:
    return [str(lease["ended_by"]) for lease in farm.leases(project)]


def test_a_cassette_has_no_request_to_the_farm_and_its_replay_takes_new_leases(
    run: Run, farm: LiveFarm, shop: ThreadingHTTPServer, pytester: pytest.Pytester
) -> None:
    project = farm.project(users=2)
    suite = """
pytestmark = pytest.mark.vcr

def test_threads(botfarm_lease):
    assert renewed(botfarm_lease(ttl=2))
    assert httpx.get(SHOP).json() == {"real": True}

def test_tasks():
    assert asyncio.run(renewed_in_tasks())
    assert asyncio.run(ping()) == {"real": True}
"""
    recording = ("-p", "pytest_recording.plugin", "--record-mode")
    run(suite, *recording, "all", project=project).assert_outcomes(passed=2)
    cassettes = [file.read_text() for file in Path(pytester.path, "cassettes").rglob("*.yaml")]
    assert [cassette.count("uri:") for cassette in cassettes] == [1, 1], "the shop, and nothing else"
    for secret in (TOKEN, PASSWORD, farm.url, project):
        assert secret not in "".join(cassettes)
    assert ended(farm, project) == ["released"] * 2
    shop.server_close()
    run(suite, *recording, "none", project=project).assert_outcomes(passed=2)
    assert ended(farm, project) == ["released"] * 4


def test_pytest_httpx_mocks_the_system_under_test_and_not_the_farm(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=3)
    suite = """
def check(lease, httpx_mock):
    httpx_mock.add_response(json={"mocked": True})
    assert httpx.get(SHOP).json() == {"mocked": True}
    assert renewed(lease)
    assert len(httpx_mock.get_requests()) == 1

def test_mock_first(httpx_mock, botfarm_lease):
    check(botfarm_lease(ttl=2), httpx_mock)

def test_lease_first(botfarm_lease, httpx_mock):
    check(botfarm_lease(ttl=2), httpx_mock)

def test_tasks(httpx_mock):
    httpx_mock.add_response(json={"mocked": True})
    assert asyncio.run(renewed_in_tasks())
    assert asyncio.run(ping()) == {"mocked": True}
    assert len(httpx_mock.get_requests()) == 1
"""
    run(suite, "-p", "pytest_httpx", project=project).assert_outcomes(passed=3)
    assert ended(farm, project) == ["released"] * 3


def test_respx_mocks_the_system_under_test_and_not_the_farm(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=3)
    suite = """
def check(lease, respx_mock):
    respx_mock.get(SHOP).respond(json={"mocked": True})
    assert httpx.get(SHOP).json() == {"mocked": True}
    assert renewed(lease)
    assert len(respx_mock.calls) == 1

def test_mock_first(respx_mock, botfarm_lease):
    check(botfarm_lease(ttl=2), respx_mock)

@pytest.mark.respx(using="httpx")
def test_lease_first(botfarm_lease, respx_mock):
    check(botfarm_lease(ttl=2), respx_mock)

def test_tasks(respx_mock):
    respx_mock.get(SHOP).respond(json={"mocked": True})
    assert asyncio.run(renewed_in_tasks())
    assert asyncio.run(ping()) == {"mocked": True}
    assert len(respx_mock.calls) == 1
"""
    run(suite, "-p", "respx.plugin", project=project).assert_outcomes(passed=3)
    assert ended(farm, project) == ["released"] * 3
