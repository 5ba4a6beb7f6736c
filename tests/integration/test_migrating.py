"""`botfarm migrate` on a farm in use: it yields to sessions that use a table, and delays requests briefly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager

import asyncpg
import pytest

from botfarm.db.postgres.engine import REQUEST_PATIENCE
from botfarm.db.schema import migration
from botfarm.db.schema.migration import MIGRATION_LOCK, migrate
from botfarm.db.schema.revisions import revisions
from botfarm.errors import OperatorError
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from support.postgres import FAST, temporary_folder
from support.processes import Process, running_botfarm

VACUUMS = "SELECT count(*) FROM pg_stat_progress_vacuum WHERE relid = 'leases'::regclass"


@pytest.fixture
async def old(empty_database: str) -> str:
    """A database with the first revision; the second one changes users and leases."""
    await migrate(empty_database, revision="0001")
    return empty_database


@asynccontextmanager
async def session(url: str, name: str = "test") -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"application_name": name})
    try:
        yield connection
    finally:
        await connection.close()


def migrate_command(url: str) -> AbstractContextManager[Process]:
    return running_botfarm("migrate", environment={"BOTFARM_DATABASE_URL": url})


async def assert_ends_well(process: Process) -> None:
    assert await asyncio.to_thread(process.wait) == 0, process.output
    assert "The schema is up to date." in process.output


async def revision(url: str) -> str:
    async with session(url) as sql:
        return str(await sql.fetchval("SELECT version_num FROM alembic_version"))


async def test_requests_behind_a_waiting_migration_are_served_in_time(old: str) -> None:
    async with session(old) as reader, session(old) as request, session(old) as look:
        await request.execute(f"SET statement_timeout = '{REQUEST_PATIENCE} s'")
        is_behind = "SELECT cardinality(pg_blocking_pids($1)) > 0"
        was_behind = False
        await reader.execute("BEGIN; SELECT FROM users")
        with migrate_command(old) as process:
            async with asyncio.timeout(60):
                while not was_behind or process.output.count("a table is in use") < 2:
                    asked = asyncio.create_task(request.execute("SELECT FROM users"))
                    while not asked.done():
                        was_behind |= await look.fetchval(is_behind, request.get_server_pid())
                    await asked
            assert await revision(old) == "0001"
            await reader.execute("COMMIT")
            await assert_ends_well(process)
    assert await revision(old) == revisions()[-1]


async def test_a_migration_gives_up_and_names_the_blocking_session(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PATIENCE", 0.0)
    async with session(old, name="psql") as reader:
        async with reader.transaction():
            await reader.execute("SELECT FROM leases")
            with pytest.raises(OperatorError) as gave_up:
                await migrate(old)
        who = f"process {reader.get_server_pid()} of PostgreSQL (psql, idle in transaction"
        assert who in str(gave_up.value)
        assert "secrets" not in await columns_of_users(reader)  # a revision is applied whole or not at all
    await migrate(old)
    assert await revision(old) == revisions()[-1]


async def columns_of_users(sql: asyncpg.Connection) -> set[str]:
    rows = await sql.fetch("SELECT attname FROM pg_attribute WHERE attrelid = 'users'::regclass")
    return {row["attname"] for row in rows}


async def test_an_autovacuum_that_would_take_hours_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "FIRST_PAUSE", 0.01)
    with temporary_folder() as folder:
        server = EmbeddedPostgres(folder / "farm", options={**FAST, "autovacuum_naptime": "1"})
        url = await asyncio.to_thread(server.start)
        try:
            await migrate(url, revision="0001")
            async with session(url) as sql:
                await a_slow_vacuum_of_leases(sql)
                async with asyncio.timeout(60):
                    await migrate(url)
            assert await revision(url) == revisions()[-1]
        finally:
            await asyncio.to_thread(server.stop)


async def a_slow_vacuum_of_leases(sql: asyncpg.Connection) -> None:
    await sql.execute("""
        ALTER TABLE leases SET (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
                                autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)""")
    await sql.execute("""
        INSERT INTO leases (fence, principal, operation, project_id, env, domain, user_ids,
                            acquired_at, expires_at, ttl_seconds, hold_until)
        SELECT n, 'test', 'acquire_lease', gen_random_uuid(), 'stage', 'regular', ARRAY[gen_random_uuid()],
               now(), now(), 1, now()
        FROM generate_series(1, 20000) AS n""")
    await sql.execute("DELETE FROM leases WHERE fence % 2 = 0")
    async with asyncio.timeout(60):
        while not await sql.fetchval(VACUUMS):
            await asyncio.sleep(0.02)


async def test_a_second_migration_waits_and_holds_up_no_index_that_the_first_one_makes(old: str) -> None:
    async with session(old) as first:
        await first.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
        with migrate_command(old) as second:
            await asyncio.to_thread(second.wait_for, "waiting for another migration")
            await first.execute(
                "CREATE INDEX CONCURRENTLY ix_made_by_the_first ON leases (owner)", timeout=30
            )
            assert await revision(old) == "0001"
            await first.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)
            await assert_ends_well(second)


async def test_a_migration_goes_past_a_pooler_if_it_can(empty_database: str) -> None:
    settings = {
        "BOTFARM_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "BOTFARM_DB_POOLER": "transaction",
        "BOTFARM_LISTEN_URL": empty_database,
    }
    with running_botfarm("migrate", environment=settings) as process:
        await assert_ends_well(process)
    assert await revision(empty_database) == revisions()[-1]


async def test_a_newer_schema_is_left_as_it_is(database_url: str) -> None:
    async with session(database_url) as sql:
        await sql.execute("UPDATE alembic_version SET version_num = '9999'")
    with migrate_command(database_url) as process:
        assert await asyncio.to_thread(process.wait) == 0
    assert process.output == "The schema is a newer version's (revision 9999). It stays as it is.\n"
    assert await revision(database_url) == "9999"
