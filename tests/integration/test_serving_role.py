"""The serving role of API and worker: it works with rows, and changes nothing else in the database."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from botfarm.db.schema.revisions import revisions
from botfarm.errors import OperatorError
from botfarm.runtime.startup import migrate
from botfarm.settings import load_settings
from support.farm import KEYS, Farm, test_settings
from support.postgres import served, two_roles
from support.processes import running_botfarm


@pytest.fixture
async def serving(farm: Farm, database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the serving role, to a farm with rows in every table."""
    await farm.acquire(await farm.pool(1))
    connection = await asyncpg.connect(served(database_url))
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE users ADD COLUMN mine text",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "ALTER TABLE audit DISABLE TRIGGER append_only",
        "DROP TRIGGER stamped ON audit",
        "ALTER FUNCTION audit_stamps() RESET search_path",
        "SET session_replication_role = replica",
        "CREATE TRIGGER mine BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION audit_stamps()",
        "CREATE INDEX mine ON users (login)",
        "CREATE TABLE mine ()",
        "CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
        "CREATE SCHEMA mine",
        "DROP TABLE audit",
        "TRUNCATE users",
        "TRUNCATE audit",
        "UPDATE audit SET principal = 'somebody else'",
        "UPDATE alembic_version SET version_num = '0001'",
        "DELETE FROM alembic_version",
        "SELECT setval('fence', 1)",
        "ALTER SEQUENCE fence RESTART",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY users FROM PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/botfarm-mine'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT rolpassword FROM pg_authid",
        "CREATE ROLE mine",
        "SET ROLE {owner}",
        "ALTER DATABASE {database} RENAME TO mine",
    ],
)
async def test_the_serving_role_changes_nothing_but_rows(
    farm: Farm, serving: asyncpg.Connection, statement: str
) -> None:
    owner, database = await farm.sql.fetchrow(
        "SELECT quote_ident(current_user), quote_ident(current_database())"
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await serving.execute(statement.format(owner=owner, database=database))


async def test_an_entry_of_the_audit_gets_its_time_and_its_number_from_the_server(
    farm: Farm, serving: asyncpg.Connection
) -> None:
    before = await farm.sql.fetchrow("SELECT max(id) AS id, max(at) AS at FROM audit")
    row = await serving.fetchrow(
        """INSERT INTO audit (id, at, principal, action, target, target_id) OVERRIDING SYSTEM VALUE
           VALUES (1, '2020-01-01', 'somebody else', 'x', 'x', 'x') RETURNING id, at"""
    )
    assert row["at"] > before["at"]
    assert row["id"] > before["id"]


async def test_the_serving_role_writes_audit_entries_without_a_right_on_their_sequence(
    farm: Farm, serving: asyncpg.Connection
) -> None:
    """Hand-made grants gave a role no more than rows, and its version runs on while the next one migrates."""
    role = await serving.fetchval("SELECT quote_ident(current_user)")
    await farm.sql.execute(f"REVOKE ALL ON SEQUENCE audit_id_seq FROM {role}")
    number = await serving.fetchval(
        "INSERT INTO audit (principal, action, target, target_id) VALUES ('x', 'x', 'x', 'x') RETURNING id"
    )
    assert number == await farm.sql.fetchval("SELECT max(id) FROM audit")


async def test_the_serving_role_cannot_delete_its_audit_entries(serving: asyncpg.Connection) -> None:
    await serving.execute(
        """INSERT INTO audit (at, principal, action, target, target_id)
           VALUES ('2020-01-01', 'x', 'x', 'x', 'x')"""
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await serving.execute("SET botfarm.retention = 'on'; DELETE FROM audit WHERE principal = 'x'")


async def test_a_forged_clock_of_the_serving_role_makes_no_audit_entry_older(
    farm: Farm, serving: asyncpg.Connection
) -> None:
    """Up to PostgreSQL 14 everybody may create functions in the schema public."""
    role = await serving.fetchval("SELECT current_user")
    schema = f"schema_{uuid4().hex}"
    await farm.sql.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {role}")
    await serving.execute(
        f"""CREATE FUNCTION {schema}.clock_timestamp() RETURNS timestamptz LANGUAGE sql
            AS 'SELECT pg_catalog.clock_timestamp() + interval ''2 days''';
            SET search_path = {schema}, public, pg_catalog"""
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await serving.execute("SET botfarm.retention = 'on'; DELETE FROM audit")
    at = await serving.fetchval(
        "INSERT INTO audit (principal, action, target, target_id) VALUES ('x', 'x', 'x', 'x') RETURNING at"
    )
    assert at < await farm.sql.fetchval("SELECT clock_timestamp()")


async def test_the_serving_role_sees_the_transactions_of_other_roles(serving: asyncpg.Connection) -> None:
    assert await serving.fetchval("SELECT pg_has_role('pg_read_all_stats', 'USAGE')")


async def test_the_serving_role_may_use_the_tables_of_a_later_revision_at_once(
    farm: Farm, serving: asyncpg.Connection
) -> None:
    await farm.sql.execute("CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, what serial)")
    await serving.execute("INSERT INTO later DEFAULT VALUES; UPDATE later SET what = 2; DELETE FROM later")


@pytest.mark.usefixtures("template")  # whose migration made the role of this server
async def test_a_farm_with_one_role_gets_the_second_one_and_the_first_stays_good(empty_database: str) -> None:
    one_role = load_settings(database_url=empty_database)
    await migrate(one_role)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ask(served(empty_database), "SELECT count(*) FROM users")
    for settings in (test_settings(empty_database), one_role):
        await migrate(settings)
        assert await ask(served(empty_database), "SELECT count(*) FROM users") == 0


async def test_a_migration_with_the_serving_role_names_the_missing_setting(database_url: str) -> None:
    await ask(database_url, f"UPDATE alembic_version SET version_num = '{revisions()[-2]}'")
    with pytest.raises(OperatorError, match="BOTFARM_OWNER_URL"):
        await migrate(load_settings(database_url=served(database_url)))


async def test_surplus_grants_of_the_serving_role_are_revoked(database_url: str) -> None:
    role = await ask(served(database_url), "SELECT current_user")
    await ask(database_url, f"GRANT TRUNCATE, UPDATE ON audit TO {role}")
    await migrate(test_settings(database_url))
    assert not await ask(served(database_url), "SELECT has_table_privilege('audit', 'TRUNCATE, UPDATE')")


@pytest.fixture
async def new_role(empty_database: str) -> AsyncIterator[str]:
    name = f"Role {uuid4().hex}"
    yield name
    await drop_role(empty_database, name)


async def test_the_database_server_never_gets_the_serving_roles_password_in_clear(
    empty_database: str, new_role: str
) -> None:
    """The server's log and statistics show statements.

    A clear password would be stored as configured here, as MD5.
    """
    password = "it's a pass:word$1"
    url = with_role(empty_database, new_role, password)
    database = await ask(empty_database, "SELECT quote_ident(current_database())")
    await ask(empty_database, f"ALTER DATABASE {database} SET password_encryption = 'md5'")
    await migrate(load_settings(database_url=url, owner_url=empty_database))
    assert await ask(url, "SELECT current_user") == new_role
    stored = await ask(empty_database, f"SELECT rolpassword FROM pg_authid WHERE rolname = '{new_role}'")
    assert stored.startswith("SCRAM-SHA-256$")


async def test_an_owner_that_cannot_create_roles_says_how_to_create_one(
    empty_database: str, new_role: str
) -> None:
    await ask(empty_database, f"""CREATE ROLE "{new_role}" LOGIN PASSWORD 'x'""")
    database = await ask(empty_database, "SELECT quote_ident(current_database())")
    await ask(empty_database, f'ALTER DATABASE {database} OWNER TO "{new_role}"')
    owner, missing = with_role(empty_database, new_role, "x"), f"missing-{uuid4().hex}"
    url = with_role(empty_database, missing, "canary")
    with pytest.raises(OperatorError, match=f'CREATE ROLE "{missing}" LOGIN') as refused:
        await migrate(load_settings(database_url=url, owner_url=owner))
    assert "canary" not in str(refused.value)
    await ask(empty_database, f'CREATE ROLE "{missing}" LOGIN')
    await migrate(load_settings(database_url=url, owner_url=owner))
    assert await ask(empty_database, f"SELECT has_table_privilege('{missing}', 'users', 'DELETE')")
    await drop_role(empty_database, missing)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_process_with_the_owners_role_says_so_once(database_url: str, command: str) -> None:
    common = {"BOTFARM_ENCRYPTION_KEYS": KEYS, "BOTFARM_PORT": "0", "BOTFARM_WORKER_PORT": "0"}
    for roles, warnings in ((two_roles(database_url), 0), ({"BOTFARM_DATABASE_URL": database_url}, 1)):
        with running_botfarm(command, environment={**common, **roles}) as process:
            process.wait_for('"event": "ready"')
            assert process.output.count("BOTFARM_OWNER_URL") == warnings


def with_role(url: str, name: str, password: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{quote(name)}:{quote(password, safe='')}@{host}").geturl()


async def drop_role(url: str, name: str) -> None:
    """With what it owns and was granted in this database."""
    for statement in ("REASSIGN OWNED BY {} TO CURRENT_USER", "DROP OWNED BY {}", "DROP ROLE {}"):
        await ask(url, statement.format(f'"{name}"'))


async def ask(url: str, statement: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()
