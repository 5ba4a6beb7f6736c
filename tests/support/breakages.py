"""What goes wrong with a database, and is mended afterwards."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg


@asynccontextmanager
async def connection_to(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def clear_text_in(
    url: str, ids: list[UUID], *, password: str, secrets: str, totp_seed: str, labels: str
) -> AsyncIterator[None]:
    """As if somebody had written clear text into the table by hand, which the farm cannot decrypt."""
    columns = "password, secrets, totp_seed, labels"
    async with connection_to(url) as sql:
        before = await sql.fetch(f"SELECT id, {columns} FROM users WHERE id = ANY ($1)", ids)
        await sql.execute(
            f"UPDATE users SET ({columns}) = ROW ($2, $3, $4, $5::jsonb) WHERE id = ANY ($1)",
            *(ids, password, secrets, totp_seed, labels),
        )
        yield
        for row in before:
            await sql.execute(
                f"UPDATE users SET ({columns}) = ROW ($2, $3, $4, $5::jsonb) WHERE id = $1", *row.values()
            )


@asynccontextmanager
async def constraints_that_fail(url: str) -> AsyncIterator[None]:
    """PostgreSQL quotes the row that it refuses."""
    async with connection_to(url) as sql:
        for table, column in (("users", "login"), ("leases", "owner")):
            refused = f"CHECK ({column} NOT LIKE 'broken%') NOT VALID"
            await sql.execute(f"ALTER TABLE {table} ADD CONSTRAINT broken {refused}")
        yield
        for table in ("users", "leases"):
            await sql.execute(f"ALTER TABLE {table} DROP CONSTRAINT broken")


@asynccontextmanager
async def closed(postgres_url: str, database_url: str) -> AsyncIterator[None]:
    name = database_url.rpartition("/")[2]
    async with connection_to(postgres_url) as sql:
        await sql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await sql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
        await sql.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
