import asyncio
import re
from collections.abc import Callable
from contextlib import ExitStack
from io import StringIO
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest
from alembic.config import CommandLine, Config

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.schema.revisions import revisions, schema_is_old
from botfarm.db.shared.tables import metadata
from support.farm import test_settings
from support.processes import running_botfarm

CHECKOUT = Path(__file__).parents[2]
FIRST_RELEASE = "0003"
"""Up to here no farm was in use."""
TAKES_HOLD = re.compile(r"(?:ALTER TABLE|DROP TABLE|LOCK TABLE|UPDATE|DELETE FROM|ON|REFERENCES) (\w+)")


Alembic = Callable[..., str]


@pytest.fixture
def alembic(empty_database: str, monkeypatch: pytest.MonkeyPatch) -> Alembic:
    """Runs alembic's command on the empty database; in this process, because to start one takes a second.

    Gives what it prints.
    """
    monkeypatch.setenv("BOTFARM_DATABASE_URL", empty_database)
    monkeypatch.chdir(CHECKOUT)
    command_line = CommandLine(prog="alembic")

    def run(*arguments: str) -> str:
        options, printed = command_line.parser.parse_args(arguments), StringIO()
        config = Config("alembic.ini", stdout=printed, output_buffer=printed, cmd_opts=options)
        command_line.run_cmd(config, options)
        return printed.getvalue()

    return run


async def tables(database_url: str) -> set[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}
    finally:
        await connection.close()


def test_up_check_down_and_up_again(empty_database: str, alembic: Alembic) -> None:
    alembic("upgrade", "head")
    assert "No new upgrade operations" in alembic("check")
    alembic("downgrade", "base")
    assert asyncio.run(tables(empty_database)) == {"alembic_version"}
    alembic("upgrade", "head")
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


def test_a_revision_locks_one_table_in_use_and_makes_its_indexes_concurrently(alembic: Alembic) -> None:
    """docs/decisions/0035 says why."""
    older = alembic("upgrade", "0001:0002", "--sql")
    assert {"users", "leases"} in tables_in_use(older)  # so it would be seen
    for before, revision in pairwise(revisions()[revisions().index(FIRST_RELEASE) :]):
        sql = alembic("upgrade", f"{before}:{revision}", "--sql")
        assert all(len(tables) <= 1 for tables in tables_in_use(sql)), revision
        indexed = set(re.findall(r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).* ON (\w+)", sql))
        assert indexed & set(metadata.tables) <= set(re.findall(r"CREATE TABLE (\w+)", sql)), revision
