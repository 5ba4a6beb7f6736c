"""The checks and updates before a process starts to work."""

from botfarm.db.schema import migration
from botfarm.db.schema.serving_role import ServingRole
from botfarm.errors import DatabaseUnavailableError, OperatorError, UnknownPoolerError
from botfarm.logs import get_logger
from botfarm.runtime.services import open_services
from botfarm.settings import Settings, SettingsError

logger = get_logger(__name__)

CONNECTIONS_BESIDE_THE_POOL = 2
"""One for readiness, one to listen."""


async def check_keys(settings: Settings) -> bool:
    """Whether the keys were checked: False when the database does not answer.

    Raises SettingsError when a stored value is under a key that the ring lacks, or the first key is wrong.
    """
    async with open_services(settings, "keys", in_background=True) as services:
        try:
            reason = await services.key_usage.why_unusable()
        except DatabaseUnavailableError:
            return False
    if reason:
        raise SettingsError(reason)
    return True


async def check_connections(settings: Settings) -> None:
    """Raises SettingsError when the database allows fewer connections than this process alone may open.

    Does nothing when the database does not answer, or behind a pooler, which has limits of its own.
    """
    if settings.db_pooler != "none":
        return
    wanted = settings.database_pool_size + CONNECTIONS_BESIDE_THE_POOL
    async with open_services(settings, "connections", in_background=True) as services:
        try:
            most, in_use = await services.maintenance.connections()
            sees_all = await services.maintenance.may_see_all_sessions()
        except DatabaseUnavailableError:
            return
    if not sees_all:
        logger.warning("what other roles do is hidden: grant pg_read_all_stats to the database's role")
    if wanted > most:
        raise SettingsError(
            f"BOTFARM_DATABASE_POOL_SIZE: this process may want {wanted} connections, "
            f"and the database gives {most} to all: make it smaller, or max_connections greater"
        )
    if wanted + in_use > most:
        logger.warning("the database may run out of connections", wanted=wanted, in_use=in_use, most=most)


async def check_role(settings: Settings) -> None:
    """Logs a warning when this process's role may change the tables.

    Does nothing when the database does not answer.
    """
    async with open_services(settings, "role", in_background=True) as services:
        try:
            is_owner = await services.maintenance.may_change_tables()
        except DatabaseUnavailableError:
            return
    if is_owner:
        logger.warning(
            "this process may change the tables, and needs only their rows: "
            "give the owner's URL to `botfarm migrate` alone, as BOTFARM_OWNER_URL"
        )


async def migrate(settings: Settings) -> str | None:
    """Brings the schema to head, as its owner, and grants the serving role what it needs.

    Any number of processes may do so at once.

    Returns the database's revision if a newer version has made it, else None.
    Uses the URL past the pooler if there is one, because CREATE INDEX CONCURRENTLY is no transaction that a
    pooler could keep together.
    """
    serving = ServingRole.of_url(settings.required_database_url()) if settings.owner_url else None
    owner = settings.as_owner()
    has_pooler = owner.db_pooler == "transaction"
    url = owner.required_listen_url() if has_pooler else owner.required_database_url()
    through_pooler = has_pooler and owner.listen_url is None
    try:
        return await migration.migrate(url, through_pooler=through_pooler, serving=serving)
    except UnknownPoolerError as error:
        if settings.owner_url is None:
            raise
        raise OperatorError(
            "BOTFARM_OWNER_URL leads through a pooler that shares sessions, such as PgBouncer: "
            "it must go past it"
        ) from error
