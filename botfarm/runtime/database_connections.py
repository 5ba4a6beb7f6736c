"""The connections of a process to PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from botfarm.db.postgres.engine import BACKGROUND_PATIENCE, REQUEST_PATIENCE, Database, create_engine
from botfarm.db.postgres.listener import Listener
from botfarm.settings import Settings


@dataclass(frozen=True, slots=True)
class DatabaseConnections:
    database: Database
    health: Database
    """One connection of its own, because a busy pool is no reason to send the requests elsewhere."""
    listener: Listener | None
    """None without BOTFARM_NOTIFY."""


@asynccontextmanager
async def open_database_connections(
    settings: Settings, process_name: str, *, in_background: bool
) -> AsyncIterator[DatabaseConnections]:
    """Connects when the first statement is sent, not here. Raises SettingsError when no database is set.

    A statement may take `REQUEST_PATIENCE` seconds, or `BACKGROUND_PATIENCE` seconds in the background, where
    no caller waits for its answer.
    """
    patience = BACKGROUND_PATIENCE if in_background else REQUEST_PATIENCE
    url = settings.required_database_url()
    name = f"botfarm-{process_name}"
    through_pooler = settings.db_pooler == "transaction"
    engine = create_engine(
        url,
        application_name=name,
        pool_size=settings.database_pool_size,
        patience=patience,
        through_pooler=through_pooler,
    )
    health_engine = create_engine(
        url, application_name=f"{name}-health", pool_size=1, through_pooler=through_pooler
    )
    connections = DatabaseConnections(
        database=Database(engine, patience=patience, through_pooler=through_pooler),
        health=Database(health_engine, through_pooler=through_pooler),
        listener=_listener(settings, f"{name}-listener"),
    )
    try:
        yield connections
    finally:
        await connections.database.dispose()
        await connections.health.dispose()


def _listener(settings: Settings, name: str) -> Listener | None:
    return Listener(settings.required_listen_url(), application_name=name) if settings.notify else None
