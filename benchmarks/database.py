"""The run's own PostgreSQL, with fsync on, and SQL to set the stage, never for what is measured."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from botfarm.db.schema import migration
from botfarm.process.embedded_postgres.server import EmbeddedPostgres

Result = TypeVar("Result")

# All other settings are PostgreSQL's defaults: fsync, full_page_writes and synchronous_commit are on.
OPTIONS = {"shared_buffers": "1GB", "max_wal_size": "4GB", "max_connections": "300"}
HOLDER = "the-benchmark's-holder"

_END_LEASES_OF_THE_LOAD = """
    WITH l AS (
        UPDATE leases SET ended_at = clock_timestamp(), ended_by = 'forced'
        WHERE ended_at IS NULL AND principal <> $1
        RETURNING id, user_ids
    )
    UPDATE users SET locktime = NULL, expires_at = NULL, available_at = clock_timestamp()
    FROM l, unnest(l.user_ids) AS of_lease (id) WHERE users.id = of_lease.id AND users.lease_id = l.id"""


@dataclass(frozen=True, slots=True)
class Postgres:
    url: str
    folder: Path

    @property
    def pid(self) -> int:
        return int((self.folder / "farm/postgres/postmaster.pid").read_text().splitlines()[0])

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 5432

    def create_database(self, name: str) -> str:
        """Creates a migrated, empty database. Returns its URL."""
        execute(self.url, f"CREATE DATABASE {name}")
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        asyncio.run(migration.migrate(url))
        return url


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    # Not under /tmp, because it may be in memory, where fsync costs nothing.
    folder = Path(tempfile.mkdtemp(prefix="botfarm-bench-", dir="/var/tmp"))
    folder.chmod(0o711)  # lets the server's account enter
    server = EmbeddedPostgres(folder / "farm", options=OPTIONS)
    try:
        yield Postgres(server.start(), folder)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def with_connection(url: str, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        connection = await asyncpg.connect(url)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return asyncio.run(run())


def execute(url: str, statement: str, *arguments: object) -> None:
    with_connection(url, lambda connection: connection.execute(statement, *arguments))


def fetch_value(url: str, statement: str, *arguments: object) -> Any:
    return with_connection(url, lambda connection: connection.fetchval(statement, *arguments))


def release_what_is_left(url: str) -> None:
    """Releases the leases of the load, which stops between acquire and release: each row starts the same."""
    execute(url, _END_LEASES_OF_THE_LOAD, HOLDER)


def settle(url: str) -> None:
    """Vacuums and writes out what the set-up left, because the first row would pay for it otherwise.

    Not the empty table of leases of a new farm, which nobody has vacuumed there either. PostgreSQL would plan releases
    for a table that stays empty, and read all of it until autovacuum has analysed it.
    """
    statements = ["VACUUM ANALYZE users", "CHECKPOINT"]
    if fetch_value(url, "SELECT EXISTS (SELECT FROM leases)"):
        statements.insert(0, "VACUUM ANALYZE leases")
    for statement in statements:
        execute(url, statement)


def durability(url: str) -> dict[str, str]:
    names = ["fsync", "synchronous_commit", "full_page_writes", *OPTIONS]
    return {name: str(fetch_value(url, f"SHOW {name}")) for name in names}
