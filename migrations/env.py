"""Alembic's entry: with the connection that `botfarm migrate` hands over, or one of its own for the alembic command."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from botfarm.db.engine import create_engine
from botfarm.db.tables import metadata
from botfarm.settings import load_settings

# Any constant that nobody else in this database locks.
MIGRATION_LOCK = 0x626F7466


def run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        # Replicas that start together migrate one after the other: the later ones find the work done.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.run_migrations()


async def run_with_own_connection() -> None:
    url = load_settings().required_database_url()
    engine = create_engine(url, application_name="alembic", pool_size=1, patience=None)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_with_own_connection())
