"""A clock of the database that can be stepped: statements of the farm find a function of ours before PostgreSQL's."""

import asyncpg


async def make_steppable(database_url: str) -> None:
    """For connections that are opened from now on."""
    await _execute(
        database_url,
        """CREATE SCHEMA stepped;
           CREATE TABLE stepped.clock AS SELECT interval '0' AS ahead;
           CREATE FUNCTION stepped.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
           AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM stepped.clock';
           GRANT USAGE ON SCHEMA stepped TO PUBLIC;
           GRANT SELECT ON stepped.clock TO PUBLIC;
           ALTER DATABASE botfarm SET search_path = public, stepped, pg_catalog""",
    )


async def step(database_url: str, seconds: float) -> None:
    await _execute(database_url, f"UPDATE stepped.clock SET ahead = ahead + make_interval(secs => {seconds})")


async def _execute(database_url: str, statements: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()
