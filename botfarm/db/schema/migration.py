"""Upgrades the schema to this build's last revision, while the farm is in use."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from botfarm.db.postgres.engine import create_engine
from botfarm.db.postgres.outages import unavailable
from botfarm.db.schema.revisions import alembic_config, current_revision, revisions
from botfarm.db.schema.serving_role import ServingRole, let_serve
from botfarm.errors import OperatorError
from botfarm.logs import get_logger

logger = get_logger(__name__)

# Seconds that each attempt to migrate waits for a lock. Requests for the same table queue up behind it, so it
# gives up before they time out. Every fifth attempt waits longer than 1 s, because PostgreSQL cancels an
# autovacuum that blocks a lock for 1 s.
LOCK_PATIENCES = (0.5, 0.5, 0.5, 0.5, 1.2)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
PATIENCE = 240.0
"""Seconds until the last attempt: less than a Helm hook's five minutes, so that the error is seen."""

MIGRATION_LOCK = 0x626F7466
"""Number of the advisory lock, the same in all versions. Nothing else in this database may lock it."""
_TRY_LOCK = text(f"SELECT pg_try_advisory_xact_lock({MIGRATION_LOCK})")
_NOT_ALLOWED = "42501"
_IN_USE = {"55P03", "40P01"}
"""SQLSTATEs of an attempt that did not get its locks: lock timeout, and deadlock."""

# Oids from 16384 on are not PostgreSQL's own tables. Of a session of another role this role may see only the
# process id.
_IN_THE_WAY = text("""
    SELECT a.pid,
           concat_ws(', ', coalesce(nullif(a.application_name, ''), a.backend_type), a.state,
                     'for ' || round(extract(epoch FROM clock_timestamp() - a.xact_start)) || ' s') AS what
    FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.granted AND l.relation >= 16384)
    ORDER BY a.xact_start NULLS FIRST LIMIT 1""")


async def migrate(
    url: str, *, revision: str = "head", through_pooler: bool = False, serving: ServingRole | None = None
) -> str | None:
    """Upgrades the schema, revision by revision. Of several processes one migrates, and the others wait.

    Then grants the serving role what it needs, if there is one beside the owner of the URL.

    Returns the database's revision when a newer build has made it. Its schema contains this build's and is
    left as it is. Raises OperatorError when other sessions keep their locks for too long.
    """
    engine = create_engine(
        url, application_name="botfarm-migrate", pool_size=2, patience=None, through_pooler=through_pooler
    )
    try:
        async with _alone(engine):
            async with engine.connect() as connection:
                current = await current_revision(connection)
            ours, deadline = revisions(), time.monotonic() + PATIENCE
            if current is not None and current not in ours:
                return current
            for each in ours[ours.index(current) + 1 if current else 0 :]:
                await _upgrade_to(each, engine, deadline=deadline)
                if current:  # a new database needs no line for each revision
                    logger.info("migrated", revision=each)
                if each == revision:
                    break
            if serving is not None and await let_serve(engine, serving) and current:
                logger.info("made the serving role", role=serving.name)
    except (DBAPIError, OSError) as error:
        if isinstance(error, DBAPIError) and _sqlstate(error) == _NOT_ALLOWED:
            raise OperatorError(
                "this role may not change the tables: set BOTFARM_OWNER_URL, with the role that owns them"
            ) from error
        raise unavailable(error) from error
    finally:
        await engine.dispose()
    return None


@asynccontextmanager
async def _alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """Holds the lock of migrations. Its owner is an open transaction, so it also works through a pooler.

    Holds no snapshot, because CREATE INDEX CONCURRENTLY would wait for its end. A statement that waits for a
    lock has a snapshot, so the lock is polled. A SELECT keeps its snapshot until the next statement, so the
    last statement is a SET.
    """
    async with engine.connect() as connection:
        for attempt in count():
            if await connection.scalar(_TRY_LOCK):
                break
            await connection.rollback()
            if attempt == 0:
                logger.info("waiting for another migration")
            await asyncio.sleep(FIRST_PAUSE)
        await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


async def _upgrade_to(revision: str, engine: AsyncEngine, *, deadline: float) -> None:
    for attempt in count():
        try:
            async with engine.connect() as connection:
                await connection.run_sync(_upgrade, revision, LOCK_PATIENCES[attempt % len(LOCK_PATIENCES)])
        except DBAPIError as error:
            if _sqlstate(error) not in _IN_USE:
                raise
        else:
            return
        in_the_way = await _in_the_way(engine)
        if time.monotonic() > deadline:
            raise OperatorError(
                f"revision {revision} was not made: its tables were in use for {PATIENCE:.0f} s, "
                f"at last perhaps by {in_the_way}. "
                "The farm works on with the schema as it is; run this again when that has ended"
            )
        pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        logger.warning("a table is in use", revision=revision, in_the_way=in_the_way, next_try_in=pause)
        await asyncio.sleep(pause)


def _upgrade(connection: Connection, revision: str, lock_patience: float) -> None:
    from alembic import command  # noqa: PLC0415

    config = alembic_config()
    config.attributes.update(connection=connection, lock_patience=lock_patience)
    command.upgrade(config, revision)


def _sqlstate(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


async def _in_the_way(engine: AsyncEngine) -> str:
    """Describes the longest transaction that has a lock on a table."""
    async with engine.connect() as connection:
        row = (await connection.execute(_IN_THE_WAY)).one_or_none()
    return f"process {row.pid} of PostgreSQL ({row.what})" if row else "nobody any more"
