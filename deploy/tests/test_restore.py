"""A backup is restored while test runs hold users that it does not know: no such user is granted twice."""

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from botfarm.process.embedded_postgres.programs import find_server_binaries
from farm_load import POOL, USERS_OF_A_POOL, acquire
from farm_processes import FarmProcesses, farm_processes
from stages import run, skip
from support.postgres import two_roles
from support.processes import BOTFARM

pytestmark = pytest.mark.timeout(600)


class Backup:
    """With the options of docs/operations.md."""

    def __init__(self, database_url: str, file: Path) -> None:
        parts = urlsplit(database_url)
        self._file = file
        self._database = parts.path[1:]
        self._environment = {
            "PGHOST": str(parts.hostname),
            "PGPORT": str(parts.port),
            "PGUSER": str(parts.username),
            "PGPASSWORD": str(parts.password),
        }
        self._programs = asyncio.run(_programs_of(database_url))

    def take(self) -> None:
        self._run("pg_dump", "--format=custom", f"--file={self._file}", self._database)

    def restore(self) -> None:
        options = (
            "--clean",
            "--if-exists",
            "--create",
            "--no-privileges",
            "--exit-on-error",
            "--dbname=postgres",
        )
        self._run("pg_restore", *options, str(self._file))

    def _run(self, program: str, *arguments: str) -> None:
        run(str(self._programs / program), *arguments, environment=self._environment)


async def _programs_of(database_url: str) -> Path:
    connection = await asyncpg.connect(database_url)
    try:
        major = str(connection.get_server_version().major)
    finally:
        await connection.close()
    for binaries in find_server_binaries():
        if binaries.major == major and (binaries.folder / "pg_dump").exists():
            return binaries.folder
    return skip("pg_dump", f"there is none of PostgreSQL {major}")


@pytest.fixture
def backup(database_url: str, tmp_path: Path) -> Backup:
    return Backup(database_url, tmp_path / "botfarm.dump")


def after_restore(database_url: str, *options: str) -> str:
    return run(BOTFARM, "after-restore", *options, environment=two_roles(database_url))


def hold_across_a_backup(farm: FarmProcesses, backup: Backup) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A lease that the backup knows, and those of all other users of the pool, taken after it."""
    with farm.client() as client:
        known = acquire(client)
        given_back = acquire(client)
        backup.take()
        assert client.post(f"/leases/{given_back['id']}/release").status_code == 200
        return known, [acquire(client) for _ in range(USERS_OF_A_POOL - 1)]


def test_nobody_gets_a_user_that_is_held_since_the_backup_and_fences_rise(
    database_url: str, backup: Backup
) -> None:
    with farm_processes(database_url) as farm:
        known, unknown = hold_across_a_backup(farm, backup)
    backup.restore()
    assert free_users(database_url) == USERS_OF_A_POOL - 2, (
        "the backup has two leases, and holders there are five"
    )
    assert "Ended 2 leases" in after_restore(database_url)
    with farm_processes(database_url) as farm, farm.client() as client:
        refused = client.post("/leases", json=POOL)
        assert refused.status_code == 409, refused.text
        assert refused.json()["resting"] == refused.json()["total"] == USERS_OF_A_POOL
        assert refused.json()["next_free_in"] > max(lease["expires_in"] for lease in (known, *unknown))
        assert renewed(client, known) == 410
        assert {renewed(client, lease) for lease in unknown} == {404}
    after_restore(database_url, "--rest", "0s")
    with farm_processes(database_url) as farm, farm.client() as client:
        assert acquire(client)["fence"] > max(lease["fence"] for lease in (known, *unknown))


def renewed(client: httpx.Client, lease: dict[str, Any]) -> int:
    return client.post(f"/leases/{lease['id']}/renew").status_code


def free_users(database_url: str) -> int:
    """Of our pool, as the database has them."""

    async def ask() -> Any:
        connection = await asyncpg.connect(database_url)
        try:
            return await connection.fetchval(
                """SELECT count(*) FROM users JOIN projects AS p ON p.id = users.project_id
                   WHERE p.name = $1 AND env = $2 AND domain = $3 AND available_at <= clock_timestamp()""",
                *(POOL["project"], POOL["env"], POOL["domain"]),
            )
        finally:
            await connection.close()

    return int(asyncio.run(ask()))
