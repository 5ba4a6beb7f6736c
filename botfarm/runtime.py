"""The only wiring: what a process needs is opened here, and closed again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from botfarm.crypto.credentials import HOW_TO_MAKE_A_KEY, KeyRing, KeyRingError
from botfarm.db.postgres.engine import BACKGROUND_PATIENCE, REQUEST_PATIENCE, Database, create_engine
from botfarm.db.postgres.listener import Listener
from botfarm.db.schema import migrating
from botfarm.db.schema.granting import ServingRole
from botfarm.errors import DatabaseUnavailableError, OperatorError, UnknownPoolerError
from botfarm.logs import get_logger
from botfarm.services.access.audit import Audit
from botfarm.services.access.authentication import Authentication
from botfarm.services.access.credential_check import CredentialCheck
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.operators import Operators
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.sessions import Sessions
from botfarm.services.access.tokens import Tokens
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.grants import Grants
from botfarm.services.leasing.acquiring import Acquiring
from botfarm.services.leasing.lease_credentials import LeaseCredentials
from botfarm.services.leasing.leases import Leases
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.notifier import Notifier
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.shared.ttl_cache import CacheRefresher
from botfarm.services.stock.importing import Importing
from botfarm.services.stock.pools import Pools
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.users import Users
from botfarm.services.upkeep.health import Health
from botfarm.services.upkeep.keys import Keys
from botfarm.services.upkeep.maintenance import Maintenance
from botfarm.services.upkeep.restoring import Restoring
from botfarm.services.waiting.waiting_room import WaitingRoom
from botfarm.settings import Settings, SettingsError

logger = get_logger(__name__)

MAX_BATCH = 64
CONNECTIONS_BESIDE_THE_POOL = 2
"""One for readiness, one to listen."""


@dataclass(frozen=True, slots=True)
class Services:
    authentication: Authentication
    operators: Operators
    sessions: Sessions
    projects: Projects
    users: Users
    importing: Importing
    shutdown: Shutdown
    acquiring: Acquiring
    waiting_room: WaitingRoom
    listener: Listener | None
    leases: Leases
    lease_credentials: LeaseCredentials
    pools: Pools
    tokens: Tokens
    audit: Audit
    maintenance: Maintenance
    restoring: Restoring
    keys: Keys
    health: Health
    cache_refresher: CacheRefresher


@asynccontextmanager
async def open_services(
    settings: Settings, process_name: str, *, in_background: bool = False
) -> AsyncIterator[Services]:
    """Connects lazily: a database that is away shows in the first request and in `health`, not here.

    A statement may take seconds for a caller that waits for its answer, and half a minute in the background.
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
    database = Database(engine, patience=patience, through_pooler=through_pooler)
    # A connection of its own: a pool that is busy is no reason to send the requests elsewhere.
    health_engine = create_engine(
        url, application_name=f"{name}-health", pool_size=1, through_pooler=through_pooler
    )
    health_database = Database(health_engine, through_pooler=through_pooler)
    key_ring = read_key_ring(settings)
    passwords = Passwords()
    projects = Projects(database)
    max_batch = MAX_BATCH if settings.coalescing else 1
    replica_id = uuid4()
    listener = (
        Listener(settings.required_listen_url(), application_name=f"{name}-listener")
        if settings.notify
        else None
    )
    notifier = Notifier(database, listener)
    leases = Leases(database, key_ring, notifier, max_batch=max_batch)
    shutdown = Shutdown()
    limiter = AcquireLimiter(max(1, settings.database_pool_size // 2), shutdown)
    sessions = Sessions(database, key_ring, passwords, LoginThrottle(), shutdown)
    token = settings.bootstrap_token
    authentication = Authentication(database, token.get_secret_value() if token else None)
    pools, clock = Pools(database), DatabaseClock()
    grants = Grants(
        database,
        pools,
        clock,
        limiter,
        CredentialCheck(authentication, sessions),
        replica_id=replica_id,
        max_batch=max_batch,
    )
    waiting_room = WaitingRoom(
        database,
        listener,
        notifier,
        pools,
        grants,
        replica_id=replica_id,
        max_waiters=settings.max_waiters,
    )
    try:
        yield Services(
            operators=Operators(database, passwords),
            sessions=sessions,
            authentication=authentication,
            cache_refresher=CacheRefresher((authentication.refresh, sessions.refresh, projects.refresh)),
            projects=projects,
            users=Users(database, key_ring, notifier),
            importing=Importing(database, key_ring, notifier),
            shutdown=shutdown,
            acquiring=Acquiring(
                database,
                key_ring,
                projects,
                grants=grants,
                waiting_room=waiting_room,
                notifier=notifier,
                limiter=limiter,
                clock=clock,
                max_wait=settings.max_wait,
            ),
            waiting_room=waiting_room,
            listener=listener,
            leases=leases,
            lease_credentials=LeaseCredentials(database, key_ring, leases),
            pools=pools,
            tokens=Tokens(database),
            audit=Audit(database),
            maintenance=Maintenance(database, notifier, clock, history_days=settings.history_days),
            restoring=Restoring(database),
            keys=Keys(database, key_ring),
            health=Health(health_database, process_name, serving=database),
        )
    finally:
        passwords.close()
        waiting_room.stop()
        await waiting_room.close()
        await notifier.close()
        await database.dispose()
        await health_database.dispose()


def read_key_ring(settings: Settings) -> KeyRing:
    """Raises SettingsError when a key cannot be used; none at all is fine for a process that never decrypts."""
    try:
        return KeyRing.parse(settings.encryption_keys.get_secret_value())
    except KeyRingError as error:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS: {error}") from None


def require_keys(settings: Settings) -> None:
    """Raises SettingsError for a process that keeps or hands out credentials and has no key."""
    if read_key_ring(settings).active_key_id is None:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS is not set: {HOW_TO_MAKE_A_KEY}")


async def check_keys(settings: Settings) -> bool:
    """False when the database cannot say. Raises SettingsError when something stored is under a key we do not have."""
    async with open_services(settings, "keys", in_background=True) as services:
        try:
            reason = await services.keys.why_unusable()
        except DatabaseUnavailableError:
            return False
    if reason:
        raise SettingsError(reason)
    return True


async def check_connections(settings: Settings) -> None:
    """Raises SettingsError when the database gives fewer connections than this process alone may want.

    Says nothing when the database cannot, or when a pooler is between, whose limits are its own.
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
            f"BOTFARM_DATABASE_POOL_SIZE: this process may want {wanted} connections, and the database gives {most} to all: "
            "make it smaller, or max_connections greater"
        )
    if wanted + in_use > most:
        logger.warning("the database may run out of connections", wanted=wanted, in_use=in_use, most=most)


async def check_role(settings: Settings) -> None:
    """Warns of a role that may change the tables. Says nothing when the database cannot."""
    async with open_services(settings, "role", in_background=True) as services:
        try:
            is_owner = await services.maintenance.may_change_tables()
        except DatabaseUnavailableError:
            return
    if is_owner:
        logger.warning(
            "this process may change the tables, and needs only their rows: give the owner's URL to `botfarm migrate` alone, "
            "as BOTFARM_OWNER_URL"
        )


async def migrate(settings: Settings) -> str | None:
    """Brings the schema to head, as its owner, and grants the serving role what it needs.

    Any number of processes may do so at once. Returns a revision that is a newer version's.
    Goes past a pooler where there is a way: CREATE INDEX CONCURRENTLY is no transaction that a pooler could keep together.
    """
    serving = ServingRole.of_url(settings.required_database_url()) if settings.owner_url else None
    owner = settings.as_owner()
    has_pooler = owner.db_pooler == "transaction"
    url = owner.required_listen_url() if has_pooler else owner.required_database_url()
    through_pooler = has_pooler and owner.listen_url is None
    try:
        return await migrating.migrate(url, through_pooler=through_pooler, serving=serving)
    except UnknownPoolerError as error:
        if settings.owner_url is None:
            raise
        raise OperatorError(
            "BOTFARM_OWNER_URL leads through a pooler that shares sessions, such as PgBouncer: it must go past it"
        ) from error
