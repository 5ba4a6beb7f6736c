"""Alembic's entry point. `botfarm migrate` hands over a connection; the alembic command opens its own."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from botfarm.db.postgres.engine import create_engine
from botfarm.db.shared.tables import metadata
from botfarm.settings import load_settings


def run(connection: Connection, lock_patience: float = 0) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        connection.execute(text(f"SET LOCAL lock_timeout = {int(lock_patience * 1000)}"))
        context.run_migrations()


async def run_with_own_connection() -> None:
    url = load_settings().as_owner().required_database_url()
    engine = create_engine(url, application_name="alembic", pool_size=1, patience=None)
    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes
if "connection" in given:
    run(given["connection"], given["lock_patience"])
else:
    asyncio.run(run_with_own_connection())
