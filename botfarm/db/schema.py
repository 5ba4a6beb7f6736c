"""Where the schema stands, and how to bring it to head with Alembic."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

import botfarm
from botfarm.db.engine import Database, create_engine, unavailable

# Alembic is imported where it is needed: it takes a fifth of a second, of every command.
if TYPE_CHECKING:
    from alembic.config import Config


async def migrate(url: str, *, revision: str = "head", through_pooler: bool = False) -> None:
    """Upgrades the schema; any number of replicas may do so at once, one after the other (see migrations/env.py)."""
    engine = create_engine(
        url, application_name="botfarm-migrate", pool_size=1, patience=None, through_pooler=through_pooler
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, revision)
            await connection.commit()
    except (DBAPIError, OSError) as error:
        raise unavailable(error) from error
    finally:
        await engine.dispose()


async def schema_is_old(database: Database) -> bool:
    """True when this build has a migration that the database lacks. A revision unknown here is a newer build's."""
    async with database.autocommit() as session:
        if await session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return True
        revision = await session.scalar(text("SELECT version_num FROM alembic_version"))
    return revision is None or revision in _older_revisions()


def alembic_config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_migrations_folder()))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade(connection: Connection, revision: str) -> None:
    from alembic import command  # noqa: PLC0415

    config = alembic_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@functools.cache
def _older_revisions() -> frozenset[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(alembic_config())
    return frozenset(script.revision for script in scripts.walk_revisions()) - frozenset(scripts.get_heads())


def _migrations_folder() -> Path:
    """Inside the package in a wheel, beside it in a checkout."""
    package = Path(botfarm.__file__).parent
    packaged = package / "migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"
