import asyncio
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.schema.revisions import revisions, schema_is_old
from botfarm.db.shared.tables import metadata
from support.farm import test_settings
from support.processes import running_botfarm

CHECKOUT = Path(__file__).parents[2]
FIRST_RELEASE = "0003"
"""Up to here no farm was in use."""
TAKES_HOLD = re.compile(r"(?:ALTER TABLE|DROP TABLE|LOCK TABLE|UPDATE|DELETE FROM|ON|REFERENCES) (\w+)")


def alembic(database_url: str, *arguments: str) -> str:
    finished = subprocess.run(
        [Path(sys.executable).with_name("alembic"), *arguments],
        cwd=CHECKOUT,
        env={**os.environ, "BOTFARM_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


async def tables(database_url: str) -> set[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


def test_up_check_down_and_up_again(empty_database: str) -> None:
    alembic(empty_database, "upgrade", "head")
    assert "No new upgrade operations" in alembic(empty_database, "check")
    alembic(empty_database, "downgrade", "base")
    assert asyncio.run(tables(empty_database)) == {"alembic_version"}
    alembic(empty_database, "upgrade", "head")
    assert {"users", "leases", "projects", "tickets"} <= asyncio.run(tables(empty_database))


def test_several_replicas_may_migrate_at_once(empty_database: str) -> None:
    environment = {"BOTFARM_DATABASE_URL": empty_database}
    with ExitStack() as stack:
        replicas = [
            stack.enter_context(running_botfarm("migrate", environment=environment)) for _ in range(4)
        ]
        assert [replica.wait() for replica in replicas] == [0] * 4, [each.output for each in replicas]
    assert {"users", "leases", "projects", "tickets"} <= asyncio.run(tables(empty_database))


@pytest.mark.parametrize(
    ("revision", "old"),
    [
        ("(none)", True),
        ("0000_removed_long_ago", False),
        ("0001", True),
        ("0002", True),
        ("0003", True),
        (revisions()[-1], False),
        (None, True),
    ],
)
async def test_a_schema_is_old_when_this_build_has_more(
    database_url: str, revision: str | None, old: bool
) -> None:
    connection = await asyncpg.connect(database_url)
    if revision is None:
        await connection.execute("DROP TABLE alembic_version")
    elif revision == "(none)":
        await connection.execute("DELETE FROM alembic_version")
    else:
        await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
    await connection.close()
    engine = create_engine(test_settings(database_url).required_database_url(), application_name="test")
    try:
        assert await schema_is_old(Database(engine)) is old
    finally:
        await engine.dispose()


def tables_in_use(sql: str) -> list[set[str]]:
    """That each of its transactions takes hold of."""
    in_use = set(metadata.tables) - set(re.findall(r"CREATE TABLE (\w+)", sql))
    return [set(TAKES_HOLD.findall(part)) & in_use for part in sql.split("COMMIT;")]


def test_a_revision_locks_one_table_in_use_and_makes_its_indexes_concurrently(
    empty_database: str,
) -> None:
    """docs/decisions/0035 says why."""
    older = alembic(empty_database, "upgrade", "0001:0002", "--sql")
    assert {"users", "leases"} in tables_in_use(older)  # so it would be seen
    for before, revision in pairwise(revisions()[revisions().index(FIRST_RELEASE) :]):
        sql = alembic(empty_database, "upgrade", f"{before}:{revision}", "--sql")
        assert all(len(tables) <= 1 for tables in tables_in_use(sql)), revision
        indexed = set(re.findall(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).* ON (\w+)", sql))
        assert indexed & set(metadata.tables) <= set(re.findall(r"CREATE TABLE (\w+)", sql)), revision
