"""A URL with several hosts, some of which refuse or are silent, as after a failover."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from botfarm.db.postgres import multi_host
from botfarm.db.postgres.multi_host import connect
from support.app import api_client
from support.farm import test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.proxy import Proxy, proxy_to

pytestmark = pytest.mark.impatient

NAME = {"application_name": "several-hosts"}


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxy_to(database_url) as opened:
        yield opened


@contextmanager
def nobody(database_url: str) -> Iterator[str]:
    """The URL of a host that refuses connections, at a port that is reserved meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{bound.getsockname()[1]}"
        yield urlunsplit(urlsplit(database_url)._replace(netloc=host))


def url_of(database_url: str, *others: str) -> str:
    """The URL with the hosts of the other URLs before its own."""
    parts = urlsplit(database_url)
    account, _, host = parts.netloc.rpartition("@")
    hosts = ",".join([*(urlsplit(other).netloc.rpartition("@")[2] for other in others), host])
    return urlunsplit(parts._replace(netloc=f"{account}@{hosts}", query="target_session_attrs=read-write"))


async def until_connected(database_url: str, number: int) -> None:
    sql = await asyncpg.connect(database_url)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'several-hosts'"
    try:
        async with asyncio.timeout(60):
            while await sql.fetchval(count) != number:
                await asyncio.sleep(0.02)
    finally:
        await sql.close()


async def until_left(proxy: Proxy) -> None:
    """What it kept back has been passed on, and who it was for has hung up."""
    async with asyncio.timeout(60):
        while proxy.connections:
            await asyncio.sleep(0.02)


async def test_a_process_that_starts_while_the_first_host_is_silent_serves(
    database_url: str, proxy: Proxy
) -> None:
    proxy.silence()
    async with api_client(test_settings(url_of(database_url, proxy.url))) as api:
        await create_user(api, await create_project(api))
        assert (await api.post("/leases", json=LEASE)).status_code == 201


async def test_the_first_host_falls_silent(database_url: str, proxy: Proxy) -> None:
    async with api_client(test_settings(url_of(database_url, proxy.url))) as api:
        await create_user(api, await create_project(api))
        proxy.silence()
        assert_problem(await api.post("/leases", json=LEASE), 503, "database-unavailable")
        async with asyncio.timeout(60):
            while (answer := await api.post("/leases", json=LEASE)).status_code == 503:
                pass  # once for each connection to it
        assert answer.status_code == 201, answer.text


async def test_a_host_that_refuses_is_passed_by(database_url: str) -> None:
    with nobody(database_url) as refusing:
        connection = await connect(url_of(database_url, refusing, refusing), server_settings=NAME)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(url_of(refusing, refusing))


async def test_a_host_that_answers_too_late_keeps_no_connection(database_url: str, proxy: Proxy) -> None:
    proxy.silence()
    connection = await connect(url_of(database_url, proxy.url), server_settings=NAME)
    proxy.speak()
    await until_left(proxy)
    await until_connected(database_url, 1)
    await connection.close()
    await until_connected(database_url, 0)


async def test_of_two_hosts_that_answer_at_once_one_connection_stays(
    database_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multi_host, "HEAD_START", 0.0)
    url = url_of(database_url, proxy.url, database_url)
    connections = [await connect(url, server_settings=NAME) for _ in range(10)]
    await until_connected(database_url, len(connections))
    for connection in connections:
        await connection.close()


async def test_a_cancelled_connect_leaves_no_connection(database_url: str, proxy: Proxy) -> None:
    proxy.silence()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(connect(url_of(proxy.url, proxy.url), server_settings=NAME), 0.5)
    assert proxy.connections > 0
    proxy.speak()
    await until_left(proxy)
    await until_connected(database_url, 0)
