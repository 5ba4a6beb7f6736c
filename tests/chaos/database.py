"""PostgreSQL servers of a chaos run: a primary and a synchronous standby, which takes its place when promoted."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from botfarm.process.embedded_postgres.programs import run_program
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from support.live_farm import free_port

_PATIENCE = 60
"""Seconds for each step of a server, which takes about one."""


@dataclass(frozen=True, slots=True)
class _Programs:
    folder: Path
    account: str | None

    def run(self, name: str, *arguments: str | Path) -> None:
        done = run_program(self.folder / name, *arguments, account=self.account)
        assert done.returncode == 0, f"{name}: {done.stdout}"


class _Server:
    def __init__(self, programs: _Programs, data: Path, url: str) -> None:
        """`url` is that of any server of the cluster; this one has a port of its own."""
        self._programs = programs
        self._data = data
        self.log = data.with_suffix(".log")
        self._port = free_port()
        parts = urlsplit(url)
        self.url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self._port}").geturl()

    async def start(self) -> None:
        settings = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": 200,
            # A standby that was cut off by a crash of the primary finds what it missed, and soon.
            "wal_keep_size": "64MB",
            "max_wal_size": "128MB",
            "wal_retrieve_retry_interval": "200ms",
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        await self._pg_ctl("start", "-w", "-t", str(_PATIENCE), "-l", self.log, "-o", options)

    async def stop(self, mode: str) -> None:
        await self._pg_ctl("stop", "-w", "-m", mode)

    async def promote(self) -> None:
        await self._pg_ctl("promote", "-w", "-t", str(_PATIENCE))

    async def follow(self, primary: "_Server") -> None:
        """Copies the primary and starts as its synchronous standby."""
        await asyncio.to_thread(
            self._programs.run,
            "pg_basebackup",
            "-D",
            self._data,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "-d",
            primary.url,
        )
        await self.start()
        await primary.be_followed(synchronously=True)

    async def be_followed(self, *, synchronously: bool) -> None:
        """Without a standby, each commit would wait for one if it were to be synchronous."""
        sql = await asyncpg.connect(self.url)
        try:
            names = "*" if synchronously else ""
            await sql.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            await sql.execute("SELECT pg_reload_conf()")
            async with asyncio.timeout(_PATIENCE):
                while (
                    synchronously
                    and await sql.fetchval("SELECT sync_state FROM pg_stat_replication") != "sync"
                ):
                    await asyncio.sleep(0.05)
        finally:
            await sql.close()

    def remove(self) -> None:
        shutil.rmtree(self._data)

    async def _pg_ctl(self, *arguments: str | Path) -> None:
        await asyncio.to_thread(self._programs.run, "pg_ctl", "-D", self._data, *arguments)


class ChaosDatabase:
    """The server that takes writes. Its URL changes when a standby is promoted."""

    def __init__(self, folder: Path, programs: _Programs, primary: _Server) -> None:
        self._folder = folder
        self._programs = programs
        self._primary = primary
        self._standby: _Server | None = None
        self._logs = [primary.log]
        self._standbys = 0

    @property
    def url(self) -> str:
        """Of the owner of the tables."""
        return self._primary.url

    async def crash(self, seconds: float) -> None:
        await self._be_away("immediate", seconds)

    async def restart(self, seconds: float) -> None:
        await self._be_away("fast", seconds)

    async def _be_away(self, mode: str, seconds: float) -> None:
        await self._primary.stop(mode)
        await asyncio.sleep(seconds)
        await self._primary.start()

    async def fail_over(self, seconds: float) -> None:
        """The primary is gone for good. Its standby takes over after this time."""
        assert self._standby is not None
        await self._primary.stop("immediate")
        await asyncio.sleep(seconds)
        await self._standby.promote()
        self._primary.remove()
        self._primary, self._standby = self._standby, None
        await self._primary.be_followed(synchronously=False)

    async def add_standby(self) -> None:
        """If there is none."""
        if self._standby is None:
            self._standbys += 1
            standby = _Server(self._programs, self._folder / f"standby-{self._standbys}", self._primary.url)
            self._logs.append(standby.log)
            await standby.follow(self._primary)
            self._standby = standby

    async def stop(self) -> None:
        for server in (self._standby, self._primary):
            if server is not None:
                await server.stop("immediate")

    def copy_logs(self, folder: Path) -> None:
        """Of all servers that there were. Only their account may write into its own folder."""
        for log in self._logs:
            if log.exists():
                shutil.copyfile(log, folder / log.name)


@asynccontextmanager
async def chaos_database(folder: Path, logs: Path) -> AsyncIterator[ChaosDatabase]:
    """A cluster of its own, which keeps what it has acknowledged. Leaves the logs of its servers in `logs`."""
    maker = EmbeddedPostgres(folder / "maker")
    url = await asyncio.to_thread(maker.start)  # makes the cluster
    await asyncio.to_thread(maker.stop)
    programs = _Programs(maker._programs, maker._account)
    primary = _Server(programs, folder / "maker" / "postgres", url)
    if programs.account:
        shutil.chown(folder, programs.account)  # it makes the folders of standbys
    await primary.start()
    database = ChaosDatabase(folder, programs, primary)
    try:
        yield database
    finally:
        try:
            await database.stop()
        finally:
            database.copy_logs(logs)
