"""A synchronous standby of an embedded server, made and promoted with PostgreSQL's own programs."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from botfarm.process.embedded_postgres.programs import run_program
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from farm_processes import free_port


class Standby:
    def __init__(self, primary: EmbeddedPostgres, primary_url: str, folder: Path) -> None:
        self._primary = primary
        self._primary_url = primary_url
        self._folder = folder
        self.port = free_port()

    @property
    def url(self) -> str:
        parts = urlsplit(self._primary_url)
        return f"postgresql://{parts.username}:{parts.password}@127.0.0.1:{self.port}{parts.path}"

    @property
    def url_of_both(self) -> str:
        """As ops name them: whichever can be written to."""
        parts = urlsplit(self._primary_url)
        hosts = f"127.0.0.1:{parts.port},127.0.0.1:{self.port}"
        return f"postgresql://{parts.username}:{parts.password}@{hosts}{parts.path}?target_session_attrs=read-write"

    def start(self) -> None:
        self._program(
            "pg_basebackup",
            "-D",
            str(self._folder),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-d",
            self._primary_url,
        )
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
        )
        self.pg_ctl("start", "-w", "-l", str(self._folder.with_suffix(".log")), "-o", options)
        asyncio.run(self._make_synchronous())

    async def _make_synchronous(self) -> None:
        """After the base backup, which would have carried the setting over to whom nobody follows."""
        sql = await asyncpg.connect(self._primary_url)
        try:
            await sql.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await sql.execute("SELECT pg_reload_conf()")
            async with asyncio.timeout(20):
                while await sql.fetchval("SELECT sync_state FROM pg_stat_replication") != "sync":
                    await asyncio.sleep(0.05)
        finally:
            await sql.close()

    def pg_ctl(self, *arguments: str) -> None:
        self._program("pg_ctl", "-D", str(self._folder), *arguments)

    def _program(self, name: str, *arguments: str) -> None:
        done = run_program(self._primary._programs / name, *arguments, account=self._primary._account)
        assert done.returncode == 0, done.stdout


@contextmanager
def standby_of(primary: EmbeddedPostgres, url: str, parent: Path) -> Iterator[Standby]:
    """The folder must be one that the server's account may write to."""
    standby = Standby(primary, url, parent / "standby")
    standby.start()
    try:
        yield standby
    finally:
        standby.pg_ctl("stop", "-m", "immediate")
