"""A database that is gone, silent, slow, read-only or full: 503 in three seconds, and recovery by itself."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from botfarm.crypto.api_tokens import new_token
from botfarm.db.postgres import engine, outages
from botfarm.errors import DatabaseUnavailableError
from botfarm.runtime import readiness
from support.app import api_client
from support.farm import test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.proxy import Proxy, proxy_to

pytestmark = pytest.mark.impatient

# Not pg_stat_activity, which shows one snapshot to a whole transaction.
WAITING = """SELECT count(*) FROM pg_locks WHERE NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxy_to(database_url) as opened:
        yield opened


@pytest.fixture
async def api(proxy: Proxy) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind the proxy, with one project and one user."""
    async with api_client(test_settings(proxy.url)) as client:
        await create_user(client, await create_project(client))
        yield client


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def assert_unavailable(request: Awaitable[httpx.Response]) -> None:
    started = time.monotonic()
    answer = await request
    assert_problem(answer, 503, "database-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert time.monotonic() - started < 4  # three, and one for a busy machine


async def until_served(api: httpx.AsyncClient) -> None:
    """Waits until requests succeed again, because the first ones may still meet a dead connection."""
    async with asyncio.timeout(60):
        while (answer := await api.post("/leases", json=LEASE)).status_code == 503:
            await asyncio.sleep(0.05)
    assert answer.status_code == 201, answer.text


async def test_away(api: httpx.AsyncClient, proxy: Proxy) -> None:
    await proxy.cut()
    for request in (
        api.post("/leases", json=LEASE),
        api.get("/users"),
        api.post("/projects", json={"name": "x"}),
    ):
        await assert_unavailable(request)
    assert (await api.get("http://farm.test/livez")).status_code == 200
    await proxy.mend()
    await until_served(api)


async def test_silent(api: httpx.AsyncClient, proxy: Proxy) -> None:
    proxy.silence()
    await asyncio.gather(*(assert_unavailable(api.post("/leases", json=LEASE)) for _ in range(20)))
    proxy.speak()
    await until_served(api)


async def test_a_process_stops_in_time_while_the_database_is_silent(proxy: Proxy) -> None:
    async with asyncio.timeout(60), api_client(test_settings(proxy.url)) as api:
        await create_project(api)
        proxy.silence()


async def test_slow(api: httpx.AsyncClient, sql: asyncpg.Connection) -> None:
    async with sql.transaction():
        await sql.execute("LOCK TABLE users")
        await asyncio.gather(*(assert_unavailable(api.post("/leases", json=LEASE)) for _ in range(20)))
    await until_served(api)
    assert await sql.fetchval("SELECT count(*) FROM leases") == 1, "who got a 503 holds nothing"


async def test_a_standby_after_a_failover(
    api: httpx.AsyncClient, sql: asyncpg.Connection, database_url: str
) -> None:
    """Open connections stay on a server that became read-only; only new ones find the new primary."""
    name = database_url.rpartition("/")[2]
    await sql.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    await sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'botfarm-api'"
    )
    for _ in range(12):  # the first requests meet closed connections, the others a server that cannot write
        assert_problem(await api.post("/leases", json=LEASE), 503, "database-unavailable")
    await sql.execute("SET default_transaction_read_only = off")
    await sql.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
    await until_served(api)


async def test_a_database_that_only_reads_is_not_ready(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "INTERVAL", 0.05)
    name = database_url.rpartition("/")[2]
    async with api_client(test_settings(database_url)) as api:
        await until_ready(api, 200)
        assert 'botfarm_ready{process="api"} 1.0' in await metrics_of(api)
        await sql.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'botfarm-api-health'"
        )
        await until_ready(api, 503)
        assert (await api.get("http://farm.test/readyz")).text == "The database is read-only."
        metrics = await metrics_of(api)
        assert 'botfarm_ready{process="api"} 0.0' in metrics
        assert "botfarm_db_up 0.0" in metrics
        await sql.execute("SET default_transaction_read_only = off")
        await sql.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await until_ready(api, 200)


async def metrics_of(api: httpx.AsyncClient) -> str:
    return (await api.get("http://farm.test/metrics")).text


async def test_out_of_connections(proxy: Proxy, sql: asyncpg.Connection) -> None:
    """All connections of the pool are held by statements that wait."""
    async with api_client(test_settings(proxy.url, database_pool_size=2)) as api:
        project_id = await create_project(api)
        await create_user(api, project_id)
        async with sql.transaction():
            await sql.execute("LOCK TABLE users")
            held = [asyncio.create_task(api.get(path)) for path in ("/pools", "/users")]
            async with asyncio.timeout(1):
                while await sql.fetchval(WAITING) < len(held):
                    await asyncio.sleep(0.01)
            in_vain = REGISTRY.get_sample_value("botfarm_db_pool_timeouts_total") or 0
            waits = REGISTRY.get_sample_value("botfarm_db_pool_wait_seconds_count") or 0
            await assert_unavailable(api.get("/projects"))
            assert (REGISTRY.get_sample_value("botfarm_db_pool_timeouts_total") or 0) > in_vain
            assert (REGISTRY.get_sample_value("botfarm_db_pool_wait_seconds_count") or 0) > waits
            for request in held:
                await request
        await until_served(api)


async def test_connections_that_the_server_has_closed_fail_no_request(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[asyncpg.Connection] = []
    connect = engine.connect

    async def remembered(*arguments: Any, **settings: Any) -> asyncpg.Connection:
        opened.append(await connect(*arguments, **settings))
        return opened[-1]

    monkeypatch.setattr(engine, "connect", remembered)
    async with api_client(test_settings(database_url)) as api:
        await create_user(api, await create_project(api))
        await asyncio.gather(*(api.get("/pools") for _ in range(10)))
        terminated = await sql.fetch(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'botfarm-api'"
        )
        pids = {row["pid"] for row in terminated}
        ended = [connection for connection in opened if connection.get_server_pid() in pids]
        async with asyncio.timeout(60):
            while not all(connection.is_closed() for connection in ended):
                await asyncio.sleep(0.01)
        answers = await asyncio.gather(
            *(api.get("/pools") for _ in range(10)), api.post("/leases", json=LEASE)
        )
    assert len(ended) > 1
    assert [answer.status_code for answer in answers] == [200] * 10 + [201]


async def test_a_connection_that_the_server_ended_and_has_not_closed(
    api: httpx.AsyncClient, proxy: Proxy, sql: asyncpg.Connection
) -> None:
    """Simulates a primary that stops for a switchover."""
    lease = (await api.post("/leases", json=LEASE)).json()
    proxy.hide_ends()
    ended = await sql.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'botfarm-api'"
    )
    async with asyncio.timeout(60):
        while proxy.hidden_ends < len(ended):
            await asyncio.sleep(0.01)
        await sql.fetchval("SELECT 1")  # earlier messages have arrived, too
        for _ in ended:  # each request finds one dead connection
            if (answer := await api.post(f"/leases/{lease['id']}/renew")).status_code != 200:
                assert_problem(answer, 503, "database-unavailable")
        assert (await api.post(f"/leases/{lease['id']}/renew")).status_code == 200


async def test_a_database_that_lets_us_in_no_more(
    database_url: str,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The farm's role loses its login. The probes show it, the log says why, and service returns with it."""
    monkeypatch.setattr(readiness, "INTERVAL", 0.05)
    monkeypatch.setattr(outages, "WARNING_INTERVAL", 0.0)
    role = f"role_{uuid4().hex}"
    await sql.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'secret'")
    url = urlsplit(database_url)
    ours = urlunsplit(url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}"))
    try:
        async with api_client(test_settings(database_url, database_url=ours)) as api:
            await create_user(api, await create_project(api))
            await until_ready(api, 200)
            await sql.execute(f"ALTER ROLE {role} NOLOGIN")
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
            )
            await until_ready(api, 503)
            await assert_unavailable(api.post("/leases", json=LEASE))
            assert "not permitted to log in" in caplog.text
            await sql.execute(f"ALTER ROLE {role} LOGIN")
            await until_ready(api, 200)
            await until_served(api)
    finally:
        await sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
        await sql.execute(f"DROP ROLE {role}")


async def until_ready(api: httpx.AsyncClient, status: int) -> None:
    async with asyncio.timeout(60):
        while (await api.get("http://farm.test/readyz")).status_code != status:
            await asyncio.sleep(0.02)


async def test_readiness_follows_the_database(
    api: httpx.AsyncClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "INTERVAL", 0.1)

    await until_ready(api, 200)
    await proxy.cut()
    await until_ready(api, 503)
    assert (await api.get("http://farm.test/livez")).status_code == 200
    await proxy.mend()
    await until_ready(api, 200)


async def test_metrics_are_there_when_the_database_is_not(
    api: httpx.AsyncClient, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "INTERVAL", 0.05)
    await until_ready(api, 200)
    await proxy.cut()
    await until_ready(api, 503)
    # A token that is not cached yet, so that the database must be asked whether it may see pools.
    headers = {"Authorization": f"Bearer {new_token().write()}"}
    answer = await api.get("http://farm.test/metrics", headers=headers)
    assert answer.status_code == 200
    assert "botfarm_db_up 0.0" in answer.text
    assert "botfarm_users{" not in answer.text


async def test_time_is_over_between_two_steps_of_the_driver(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it does not look whether its connection is still there: it asks what an array of UUIDs is."""
    introspect = asyncpg.Connection._introspect_types

    async def introspect_too_late(connection: asyncpg.Connection, *arguments: Any) -> Any:
        async with asyncio.timeout(60):
            while not connection.is_closed():
                await asyncio.sleep(0.01)
        return await introspect(connection, *arguments)

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", introspect_too_late)
    database = engine.Database(engine.create_engine(database_url, application_name="test"), patience=0.0)
    try:
        with pytest.raises(DatabaseUnavailableError):
            await ask(database, "SELECT CAST(ARRAY[gen_random_uuid()] AS uuid[])")
    finally:
        await database.dispose()


async def ask(database: engine.Database, statement: str) -> None:
    async with database.autocommit() as session:
        await session.execute(text(statement))
