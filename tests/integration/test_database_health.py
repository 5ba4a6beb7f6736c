"""The worker's metrics of the database: what keeps vacuum from removing dead rows, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.upkeep import maintenance_queries
from botfarm.runtime.startup import check_connections
from botfarm.settings import load_settings
from support.postgres import fresh_database

OLD = 0.3


async def oldest_snapshot(url: str) -> float:
    database = Database(create_engine(url, application_name="test", pool_size=1))
    try:
        async with database.autocommit() as session:
            return await maintenance_queries.oldest_snapshot(session)
    finally:
        await database.dispose()


@asynccontextmanager
async def transaction(url: str, *statements: str) -> AsyncIterator[None]:
    """Left open for a while after its statements."""
    connection = await asyncpg.connect(url)
    try:
        for statement in ("BEGIN", *statements):
            await connection.execute(statement)
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(60):
            while asyncio.get_running_loop().time() - started < OLD:
                await connection.fetchval("SELECT 1")
        yield
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "statements",
    [
        ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM users"),
        ("SELECT pg_current_xact_id()",),
    ],
    ids=["holds a snapshot", "has written, and has none"],
)
async def test_a_transaction_that_holds_up_vacuum_is_seen(
    database_url: str, statements: tuple[str, ...]
) -> None:
    async with transaction(database_url, *statements):
        assert await oldest_snapshot(database_url) > OLD


@pytest.fixture
def other_database_url(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


async def test_another_database_of_the_server_makes_no_difference(
    database_url: str, other_database_url: str
) -> None:
    async with transaction(other_database_url, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1"):
        assert await oldest_snapshot(database_url) < OLD


async def test_a_role_that_does_not_see_others_is_warned_of_when_the_process_starts(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = f"role_{uuid4().hex}"
    url = urlsplit(database_url)
    settings = load_settings(
        database_url=urlunsplit(url._replace(netloc=f"{role}:secret@{url.netloc.rpartition('@')[2]}"))
    )
    sql = await asyncpg.connect(database_url)
    try:
        await sql.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret'")
        await check_connections(settings)
        assert "grant pg_read_all_stats" in caplog.text
        caplog.clear()
        await sql.execute(f"GRANT pg_read_all_stats TO {role}")
        await check_connections(settings)
        assert caplog.text == ""
    finally:
        await sql.execute(f"DROP ROLE {role}")
        await sql.close()
