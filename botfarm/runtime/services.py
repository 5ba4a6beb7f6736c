"""The only wiring: the services of a process are made here, room by room, and closed again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.postgres.listener import Listener
from botfarm.runtime.keys import read_key_ring
from botfarm.runtime.postgres import Postgres, open_postgres
from botfarm.services.access.audit import Audit
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.operators import Operators
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.sessions import Sessions
from botfarm.services.access.token_authentication import TokenAuthentication
from botfarm.services.access.tokens import Tokens
from botfarm.services.leasing.acquiring import Acquiring
from botfarm.services.leasing.leases import Leases
from botfarm.services.leasing.pool_grants import Grant, PoolGrants
from botfarm.services.leasing.under_lease import UnderLease
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.freshness import Freshness
from botfarm.services.shared.notifier import Notifier
from botfarm.services.shared.turns import Turns
from botfarm.services.stock.importing import Importing
from botfarm.services.stock.pool_counting import PoolCounting
from botfarm.services.stock.pools import Pools
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.users import Users
from botfarm.services.upkeep.after_restore import AfterRestore
from botfarm.services.upkeep.key_usage import KeyUsage
from botfarm.services.upkeep.maintenance import Maintenance
from botfarm.services.upkeep.readiness import Readiness
from botfarm.services.upkeep.reencryption import Reencryption
from botfarm.services.waiting.waiting_room import WaitingRoom
from botfarm.settings import Settings

MAX_BATCH = 64
"""Requests that one statement serves at most."""


@dataclass(frozen=True, slots=True)
class Services:
    """Ordered by room: access, stock, leasing and waiting, upkeep; then what several rooms share."""

    authentication: TokenAuthentication
    sessions: Sessions
    operators: Operators
    tokens: Tokens
    audit: Audit

    projects: Projects
    users: Users
    importing: Importing
    pools: Pools

    acquiring: Acquiring
    leases: Leases
    under_lease: UnderLease
    waiting_room: WaitingRoom[Grant]

    maintenance: Maintenance
    after_restore: AfterRestore
    key_usage: KeyUsage
    reencryption: Reencryption
    readiness: Readiness

    turns: Turns
    freshness: Freshness
    listener: Listener | None


@asynccontextmanager
async def open_services(
    settings: Settings, process_name: str, *, in_background: bool = False
) -> AsyncIterator[Services]:
    """Connects with the first statement.

    A database that does not answer shows in a request and in `readiness`, not here.
    """
    async with (
        open_postgres(settings, process_name, in_background=in_background) as postgres,
        AsyncExitStack() as closing,
    ):
        database, key_ring = postgres.database, read_key_ring(settings)
        notifier = Notifier(database, postgres.listener)
        closing.push_async_callback(notifier.close)
        turns, clock = Turns(max(1, settings.database_pool_size // 2)), DatabaseClock()

        passwords = Passwords()
        closing.callback(passwords.close)
        authentication = TokenAuthentication(database, _bootstrap_token(settings))
        sessions = Sessions(database, key_ring, passwords, LoginThrottle(), turns)

        projects = Projects(database)

        waiting_room, acquiring = _acquiring(
            settings,
            postgres,
            key_ring=key_ring,
            projects=projects,
            notifier=notifier,
            turns=turns,
            clock=clock,
        )
        closing.push_async_callback(waiting_room.close)
        closing.callback(waiting_room.stop)
        leases = Leases(database, key_ring, notifier, max_batch=_max_batch(settings))

        key_usage = KeyUsage(database, key_ring)

        yield Services(
            authentication=authentication,
            sessions=sessions,
            operators=Operators(database, passwords),
            tokens=Tokens(database),
            audit=Audit(database),
            projects=projects,
            users=Users(database, key_ring, notifier),
            importing=Importing(database, key_ring, notifier),
            pools=Pools(database),
            acquiring=acquiring,
            leases=leases,
            under_lease=UnderLease(database, key_ring, leases),
            waiting_room=waiting_room,
            maintenance=Maintenance(database, notifier, clock, history_days=settings.history_days),
            after_restore=AfterRestore(database),
            key_usage=key_usage,
            reencryption=Reencryption(database, key_ring, key_usage),
            readiness=Readiness(postgres.health, process_name, serving=database),
            turns=turns,
            freshness=Freshness((authentication.refresh, sessions.refresh, projects.refresh)),
            listener=postgres.listener,
        )


def _acquiring(
    settings: Settings,
    postgres: Postgres,
    *,
    key_ring: KeyRing,
    projects: Projects,
    notifier: Notifier,
    turns: Turns,
    clock: DatabaseClock,
) -> tuple[WaitingRoom[Grant], Acquiring]:
    """Wires leasing and waiting: PoolGrants grants users to the requests that wait in WaitingRoom."""
    database, replica_id = postgres.database, uuid4()
    counting = PoolCounting(database)
    grants = PoolGrants(
        database, counting, clock, turns, replica_id=replica_id, max_batch=_max_batch(settings)
    )
    waiting_room = WaitingRoom[Grant](
        database,
        postgres.listener,
        notifier,
        counting,
        replica_id=replica_id,
        max_waiters=settings.max_waiters,
        grant=grants.take_turn,
    )
    acquiring = Acquiring(
        database,
        key_ring,
        projects,
        grants=grants,
        waiting_room=waiting_room,
        notifier=notifier,
        turns=turns,
        clock=clock,
        max_wait=settings.max_wait,
    )
    return waiting_room, acquiring


def _max_batch(settings: Settings) -> int:
    return MAX_BATCH if settings.coalescing else 1


def _bootstrap_token(settings: Settings) -> str | None:
    token = settings.bootstrap_token
    return token.get_secret_value() if token else None
