"""One statement for each lease, without HTTP: pgbench with many clients, asyncpg with one connection."""

import asyncio
import re
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import uvloop
from sqlalchemy.ext.asyncio import AsyncConnection

from benchmarks.processes import clean_environment
from benchmarks.single_lease import RANDOM_HAND, single_lease_script
from benchmarks.statements import HAND, LEASE, PRINCIPAL, Statement, acquire_statement, release_statement
from botfarm.db.leasing.pool_grant_queries import hand_after
from botfarm.db.postgres.engine import create_engine

PGBENCH_CLIENTS = 64
_IRRELEVANT_SETTINGS = frozenset({"application_name", "client_encoding", "DateStyle", "TimeZone"})


def write_single_lease_script(project_id: UUID, path: Path) -> None:
    _write_script(path, *single_lease_script(project_id, PRINCIPAL))


def write_server_script(project_id: UUID, path: Path) -> None:
    acquire = acquire_statement(project_id).with_literals({HAND: RANDOM_HAND, LEASE: "gen_random_uuid()"})
    _write_script(path, acquire, release_statement().with_literals({LEASE: ":id"}) + ";\n")


def _write_script(path: Path, acquire: str, release: str) -> None:
    path.write_text(f"\\set r random(0, 4294967295)\n{acquire.rstrip()}\n\\gset\n{release}")


def measure_pgbench(pgbench: str, database_url: str, script: Path, *, seconds: int) -> float:
    """Pairs per second."""
    url = urlsplit(database_url)
    run = subprocess.run(
        [
            *(pgbench, "--no-vacuum", "--protocol=prepared", f"--client={PGBENCH_CLIENTS}", "--jobs=2"),
            *(f"--time={seconds}", f"--file={script}", f"--host={url.hostname}", f"--port={url.port}"),
            *("--username", url.username or "", url.path[1:]),
        ],
        check=False,
        capture_output=True,
        text=True,
        env={
            **clean_environment(),
            "PGPASSWORD": url.password or "",
            "PGOPTIONS": asyncio.run(_session_options(database_url)),
        },
    )
    found = re.search(r"^tps = ([\d.]+)", run.stdout, re.MULTILINE)
    if run.returncode or not found:
        raise RuntimeError(f"pgbench failed: {(run.stdout + run.stderr)[-2000:]}")
    return float(found[1])


def measure_bare(database_url: str, project_id: UUID, *, seconds: int) -> tuple[float, float]:
    """Median and p99 in milliseconds of acquires on one connection. A release stands between two of them."""
    statements = acquire_statement(project_id), release_statement()
    return uvloop.run(_measure_bare(database_url, *statements, seconds))


async def _measure_bare(
    database_url: str, acquire: Statement, release: Statement, seconds: int
) -> tuple[float, float]:
    acquire_text, acquire_names = acquire.for_driver()
    release_text, release_names = release.for_driver()
    engine = create_engine(database_url, application_name="bare", pool_size=1)
    took: list[float] = []
    hand = HAND
    async with engine.connect() as connection:
        driver = await _driver(connection)
        warm_at = time.perf_counter() + 1
        ends_at = warm_at + seconds
        while (started := time.perf_counter()) < ends_at:
            lease_id = uuid4()
            rows = await driver.fetch(
                acquire_text, *acquire.values(acquire_names, {HAND: hand, LEASE: lease_id})
            )
            done = time.perf_counter()
            if started > warm_at:
                took.append((done - started) * 1000)
            hand = hand_after(rows[0]["user_id"])
            await driver.fetch(release_text, *release.values(release_names, {LEASE: lease_id}))
    await engine.dispose()
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


async def _driver(connection: AsyncConnection) -> Any:
    """The connection of asyncpg below SQLAlchemy's. It has the settings of the server's connections."""
    return (await connection.get_raw_connection()).driver_connection


async def _session_options(database_url: str) -> str:
    """The settings of the server's own connections, as PGOPTIONS for pgbench's sessions."""
    engine = create_engine(database_url, application_name="pgbench")
    async with engine.connect() as connection:
        driver = await _driver(connection)
        rows = await driver.fetch("SELECT name, setting FROM pg_settings WHERE source = 'client'")
    await engine.dispose()
    wanted = {row["name"]: row["setting"] for row in rows if row["name"] not in _IRRELEVANT_SETTINGS}
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in wanted.items())


def _escaped(value: str) -> str:
    return value.replace(" ", r"\ ")
