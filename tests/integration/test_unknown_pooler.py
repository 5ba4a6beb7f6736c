"""A pooler that shares sessions, such as PgBouncer in transaction mode, and no BOTFARM_DB_POOLER."""

import asyncio

import httpx
import pytest
from sqlalchemy import text

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.schema.migration import migrate
from botfarm.errors import OperatorError, UnknownPoolerError
from botfarm.runtime import readiness, startup
from botfarm.settings import load_settings
from support.app import api_client
from support.farm import Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.proxy import proxy_to

SETTING = "BOTFARM_DB_POOLER=transaction"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "INTERVAL", 0.05)


async def until_unready(api: httpx.AsyncClient) -> str:
    async with asyncio.timeout(60):
        while (answer := await api.get("http://farm.test/readyz")).status_code != 503:
            await asyncio.sleep(0.02)
    return answer.text


async def test_a_process_whose_settings_are_ignored_is_never_ready(database_url: str) -> None:
    """As PgBouncer does with `ignore_startup_parameters`."""
    async with proxy_to(database_url) as proxy:
        proxy.pass_instead(b"enable_bitmapscan\0off", b"enable_bitmapscan\0yes")
        async with api_client(test_settings(proxy.url)) as api:
            async with asyncio.timeout(60):
                while SETTING not in (answer := await api.get("http://farm.test/readyz")).text:
                    await asyncio.sleep(0.02)
            assert answer.status_code == 503
            for request in (api.get("/projects"), api.post("/leases", json=LEASE)):
                assert_problem(await request, 503, "database-unavailable")
        with pytest.raises(UnknownPoolerError) as caught:
            await migrate(proxy.url)
        assert SETTING in caught.value.reason


async def test_the_owner_is_told_to_go_past_the_pooler(database_url: str) -> None:
    async with proxy_to(database_url) as proxy:
        proxy.pass_instead(b"enable_bitmapscan\0off", b"enable_bitmapscan\0yes")
        settings = load_settings(
            database_url=proxy.url, owner_url=proxy.url, db_pooler="transaction", notify=False
        )
        with pytest.raises(OperatorError, match="BOTFARM_OWNER_URL leads through a pooler") as caught:
            await startup.migrate(settings)
        assert "BOTFARM_DB_POOLER" not in str(caught.value)


@pytest.mark.parametrize("sqlstate", ["26000", "42P05"])
async def test_a_prepared_statement_of_another_session_makes_the_process_unready(
    database_url: str, farm: Farm, sqlstate: str
) -> None:
    async with api_client(test_settings(database_url)) as api:
        await create_user(api, await create_project(api))
        assert (await api.post("/leases", json=LEASE)).status_code == 201
        await farm.sql.execute(
            f"""CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}'; END $$"""
        )
        await farm.sql.execute("CREATE TRIGGER fail BEFORE INSERT ON leases EXECUTE FUNCTION fail()")
        assert_problem(await api.post("/leases", json=LEASE), 503, "database-unavailable")
        assert SETTING in await until_unready(api)
        await farm.sql.execute("DROP TRIGGER fail ON leases")
        # No further statement is sent, because it could be another process's of the same name.
        assert_problem(await api.post("/leases", json=LEASE), 503, "database-unavailable")
        assert SETTING in await until_unready(api)


async def test_a_session_that_lost_its_prepared_statements_is_a_poolers(database_url: str) -> None:
    database = Database(create_engine(database_url, application_name="test", pool_size=1))
    statement = text("SELECT 1 AS one")
    try:
        async with database.direct() as executor:
            await executor.execute(statement, {})
        async with database.autocommit() as session:
            driver = (await (await session.connection()).get_raw_connection()).driver_connection
            await driver.execute("DEALLOCATE ALL")
        with pytest.raises(UnknownPoolerError) as caught:
            async with database.direct() as executor:
                await executor.execute(statement, {})
        assert SETTING in caught.value.reason
    finally:
        await database.dispose()


REFUSAL = b"SFATAL\0C08P01\0Munsupported startup parameter: statement_timeout\0\0"


async def test_a_pooler_that_refuses_the_settings_of_a_session_is_named() -> None:
    """PgBouncer without `ignore_startup_parameters`, in the bytes that it sends."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4), "big")
        await reader.readexactly(length - 4)
        writer.write(b"E" + (len(REFUSAL) + 4).to_bytes(4, "big") + REFUSAL)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://farm:secret@127.0.0.1:{port}/farm?sslmode=disable"
    database = Database(create_engine(url, application_name="test", pool_size=1))
    try:
        with pytest.raises(UnknownPoolerError) as caught:
            async with database.autocommit():
                pass
        assert SETTING in caught.value.reason
        assert "statement_timeout" in caught.value.reason
    finally:
        await database.dispose()
        server.close()
