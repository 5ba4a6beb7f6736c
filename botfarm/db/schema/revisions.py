"""The database's schema revision, and the revisions of this build."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

import botfarm
from botfarm.db.postgres.engine import Database

# Alembic is imported where it is needed, because it takes a fifth of a second of every command.
if TYPE_CHECKING:
    from alembic.config import Config


async def schema_is_old(database: Database) -> bool:
    """True when the database lacks a migration of this build. An unknown revision is of a newer build."""
    async with database.autocommit() as session:
        revision = await current_revision(session)
    return revision is None or revision in revisions()[:-1]


async def current_revision(sql: AsyncConnection | AsyncSession) -> str | None:
    """None before the first migration."""
    if await sql.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = await sql.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


@functools.cache
def revisions() -> tuple[str, ...]:
    """The revisions of this build, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(alembic_config())
    return tuple(script.revision for script in scripts.walk_revisions())[::-1]


def alembic_config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_migrations_folder()))
    config.set_main_option("path_separator", "os")
    return config


def _migrations_folder() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    package = Path(botfarm.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"
