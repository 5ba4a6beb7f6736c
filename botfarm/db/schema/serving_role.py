"""The serving role, which works with the rows and cannot change the tables (decision 0040)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botfarm.db.shared.tables import fence_sequence, metadata
from botfarm.errors import OperatorError
from botfarm.logs import get_logger

logger = get_logger(__name__)

ROWS = "SELECT, INSERT, UPDATE, DELETE"
# The worker deletes old entries of the audit; the table's trigger refuses to delete young ones.
FEWER = {"audit": "SELECT, INSERT, DELETE", "alembic_version": "SELECT"}
SCRAM_ITERATIONS = 4_096
"""PostgreSQL's own default."""
_EXISTS_ALREADY = {"42710", "23505"}

_SURROUNDINGS = text("""
    SELECT current_user AS owner, current_schema() AS schema, current_database() AS database,
           rolsuper OR rolcreaterole AS may_create_roles,
           pg_has_role(current_user, 'pg_read_all_stats', 'USAGE WITH ADMIN OPTION') AS may_grant_stats,
           EXISTS (SELECT FROM pg_roles WHERE rolname = :role) AS role_exists
    FROM pg_roles WHERE rolname = current_user""")
_ROLE = text("""
    SELECT has_schema_privilege(CAST(:role AS name), current_schema(), 'CREATE') AS may_create,
           pg_has_role(CAST(:role AS name), 'pg_read_all_stats', 'MEMBER') AS sees_all""")


@dataclass(frozen=True, slots=True)
class ServingRole:
    name: str
    password: str | None = field(repr=False)

    @classmethod
    def of_url(cls, url: str) -> "ServingRole":
        """Raises OperatorError for a URL that names no role."""
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        name = unquote(parts.username or "") or query.get("user", [""])[0]
        if not name:
            raise OperatorError("BOTFARM_DATABASE_URL names no role that could be granted anything")
        password = unquote(parts.password or "") or query.get("password", [""])[0]
        return cls(name, password or None)


async def let_serve(engine: AsyncEngine, role: ServingRole) -> bool:
    """Creates the role if it is missing, and grants it exactly what API and worker need.

    The engine is the owner's.

    Returns whether it created the role. Does nothing when the role is the owner itself. Raises OperatorError
    when the role is missing and cannot be created.
    """
    quote = engine.dialect.identifier_preparer.quote_identifier
    async with engine.connect() as connection:
        around = (await connection.execute(_SURROUNDINGS, {"role": role.name})).one()
        await connection.rollback()
        if around.owner == role.name:
            return False
        if not around.role_exists:
            if not around.may_create_roles or not (role.password or "").isascii():
                raise OperatorError(
                    f"there is no role {role.name}, and {around.owner} cannot make it: "
                    f"CREATE ROLE {quote(role.name)} LOGIN PASSWORD '...', then run this again"
                )
            await _make(connection, role, quote(role.name))
        for statement in _grants(quote(role.name), quote(around.schema), quote(around.database)):
            await connection.exec_driver_sql(statement)
        granted = (await connection.execute(_ROLE, {"role": role.name})).one()
        if (
            around.may_grant_stats and not granted.sees_all
        ):  # without this grant the processes log at their start what they cannot see
            await connection.exec_driver_sql(f"GRANT pg_read_all_stats TO {quote(role.name)}")
        if granted.may_create:
            logger.warning(
                "the serving role may create tables: REVOKE CREATE ON SCHEMA from it and from PUBLIC",
                role=role.name,
                schema=around.schema,
            )
        await connection.commit()
        return not around.role_exists


async def _make(connection: AsyncConnection, role: ServingRole, quoted: str) -> None:
    """Creates the role. Another database of this server may create it at the same moment."""
    password = f" PASSWORD '{_verifier(role.password)}'" if role.password else ""
    try:
        await connection.exec_driver_sql(f"CREATE ROLE {quoted} LOGIN{password}")
        await connection.commit()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _EXISTS_ALREADY:
            raise
        await connection.rollback()


def _grants(role: str, schema: str, database: str) -> Iterator[str]:
    """Default privileges are for later tables, which a replica may use before the grants are renewed."""
    yield f"GRANT CONNECT ON DATABASE {database} TO {role}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO {role}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT {ROWS} ON TABLES TO {role}"
    yield f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE ON SEQUENCES TO {role}"
    for table in (*metadata.tables, "alembic_version"):
        yield f"REVOKE ALL ON TABLE {table} FROM {role}"
        yield f"GRANT {FEWER.get(table, ROWS)} ON TABLE {table} TO {role}"
    numbered = [
        f"{c.table.name}_{c.name}_seq" for t in metadata.tables.values() for c in t.columns if c.identity
    ]
    for sequence in (fence_sequence.name, *numbered):
        yield f"REVOKE ALL ON SEQUENCE {sequence} FROM {role}"
        yield f"GRANT USAGE ON SEQUENCE {sequence} TO {role}"


def _verifier(password: str) -> str:
    """The SCRAM verifier (RFC 5803), because PostgreSQL's logs and statistics would show a password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = (base64.b64encode(part).decode() for part in (salt, stored_key, server_key))
    return "SCRAM-SHA-256${}:{}${}:{}".format(SCRAM_ITERATIONS, *encoded)
