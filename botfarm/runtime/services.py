"""The only wiring: the services of a process are made here, room by room, and closed again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.group_roles import parse_group_roles
from botfarm.runtime.database_connections import DatabaseConnections, open_database_connections
from botfarm.runtime.keys import read_key_ring
from botfarm.runtime.readiness import Readiness
from botfarm.services.access.audit import Audit
from botfarm.services.access.credential_check import CredentialCheck
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.operators import Operators
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.sessions import Sessions
from botfarm.services.access.token_authentication import TokenAuthentication
from botfarm.services.access.tokens import Tokens
from botfarm.services.configuration.configuration import Configuration
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.grants import Grants
from botfarm.services.leasing.acquiring import Acquiring
from botfarm.services.leasing.hand_over import HandOver
from botfarm.services.leasing.lease_credentials import LeaseCredentials
from botfarm.services.leasing.leases import Leases
from botfarm.services.leasing.one_time_codes import OneTimeCodes
from botfarm.services.leasing.one_user import OneUser
from botfarm.services.leasing.refusals import Refusals
from botfarm.services.leasing.user_acquiring import UserAcquiring
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.notifier import Notifier
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.shared.ttl_cache import CacheRefresher
from botfarm.services.stock.bulk import Bulk
from botfarm.services.stock.exporting import Exporting
from botfarm.services.stock.farm_changes import FarmChanges
from botfarm.services.stock.history import History
from botfarm.services.stock.importing import Importing
from botfarm.services.stock.pools import Pools
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.user_status import UserStatuses
from botfarm.services.stock.users import Users
from botfarm.services.trust.issuer_keys import IssuerKeys
from botfarm.services.trust.provider_flow import Provider, ProviderFlow
from botfarm.services.trust.single_sign_on import SingleSignOn
from botfarm.services.trust.token_exchange import TokenExchange
from botfarm.services.trust.trust_rules import TrustRules
from botfarm.services.upkeep.after_restore import AfterRestore
from botfarm.services.upkeep.key_usage import KeyUsage
from botfarm.services.upkeep.maintenance import Maintenance
from botfarm.services.upkeep.reencryption import Reencryption
from botfarm.services.usage.capacity import Capacity
from botfarm.services.usage.lease_stats import LeaseStats
from botfarm.services.usage.pool_stats import PoolStats
from botfarm.services.usage.rolling_up import Rollups
from botfarm.services.waiting.waiting_room import WaitingRoom
from botfarm.settings import Settings

MAX_BATCH = 64
"""Requests that one statement serves at most. Their users count: a request for more has a statement of its own."""


@dataclass(frozen=True, slots=True)
class Services:
    """Ordered by room: access, trust, stock, leasing and waiting, usage, upkeep; then what several rooms share."""

    authentication: TokenAuthentication
    sessions: Sessions
    credential_check: CredentialCheck
    operators: Operators
    tokens: Tokens
    audit: Audit

    trust_rules: TrustRules
    token_exchange: TokenExchange
    single_sign_on: SingleSignOn | None

    projects: Projects
    users: Users
    user_statuses: UserStatuses
    bulk: Bulk
    history: History
    importing: Importing
    exporting: Exporting
    pools: Pools
    farm_changes: FarmChanges
    configuration: Configuration

    acquiring: Acquiring
    user_acquiring: UserAcquiring
    leases: Leases
    lease_credentials: LeaseCredentials
    one_time_codes: OneTimeCodes
    waiting_room: WaitingRoom
    refusals: Refusals

    rollups: Rollups
    pool_stats: PoolStats
    capacity: Capacity
    lease_stats: LeaseStats

    maintenance: Maintenance
    after_restore: AfterRestore
    key_usage: KeyUsage
    reencryption: Reencryption
    readiness: Readiness

    shutdown: Shutdown
    cache_refresher: CacheRefresher
    listener: Listener | None


@asynccontextmanager
async def open_services(
    settings: Settings, process_name: str, *, in_background: bool = False
) -> AsyncIterator[Services]:
    """Connects with the first statement.

    A database that does not answer shows in a request and in `readiness`, not here.
    """
    async with (
        open_database_connections(settings, process_name, in_background=in_background) as connections,
        AsyncExitStack() as closing,
    ):
        database, key_ring = connections.database, read_key_ring(settings)
        notifier = Notifier(database, connections.listener)
        closing.push_async_callback(notifier.close)
        shutdown, clock = Shutdown(), DatabaseClock()

        passwords = Passwords()
        closing.callback(passwords.close)
        authentication = TokenAuthentication(database, _bootstrap_token(settings))
        sessions = Sessions(database, key_ring, passwords, LoginThrottle(), shutdown)
        credential_check = CredentialCheck(authentication, sessions)

        trust_rules, issuer_keys = TrustRules(database), IssuerKeys(settings.oidc_keys_dir)

        projects, pools = Projects(database), Pools(database)
        farm_changes = FarmChanges(database, shutdown)
        closing.push_async_callback(farm_changes.close)

        leases = Leases(database, key_ring, notifier, max_batch=_max_batch(settings))
        one_time_codes = OneTimeCodes(database, key_ring, leases, shutdown)
        refusals = Refusals(database)
        closing.push_async_callback(refusals.close)
        waiting_room, acquiring, user_acquiring = _acquiring(
            settings,
            connections,
            key_ring=key_ring,
            projects=projects,
            pools=pools,
            credential_check=credential_check,
            refusals=refusals,
            one_time_codes=one_time_codes,
            notifier=notifier,
            shutdown=shutdown,
            clock=clock,
        )
        closing.push_async_callback(waiting_room.close)
        closing.callback(waiting_room.stop)
        key_usage = KeyUsage(database, key_ring)
        users = Users(database, key_ring, notifier)

        yield Services(
            authentication=authentication,
            sessions=sessions,
            credential_check=credential_check,
            operators=Operators(database, passwords),
            tokens=Tokens(database),
            audit=Audit(database),
            trust_rules=trust_rules,
            token_exchange=TokenExchange(database, trust_rules, issuer_keys, audience=settings.public_url),
            single_sign_on=_single_sign_on(settings, database, key_ring, sessions, issuer_keys),
            projects=projects,
            users=users,
            user_statuses=UserStatuses(database, notifier),
            bulk=Bulk(database, notifier),
            history=History(database),
            importing=Importing(database, key_ring, notifier),
            exporting=Exporting(database, key_ring, users, projects),
            pools=pools,
            farm_changes=farm_changes,
            configuration=Configuration(database, key_ring, notifier, projects, trust_rules),
            acquiring=acquiring,
            user_acquiring=user_acquiring,
            leases=leases,
            lease_credentials=LeaseCredentials(database, key_ring, leases),
            one_time_codes=one_time_codes,
            waiting_room=waiting_room,
            refusals=refusals,
            rollups=Rollups(database),
            pool_stats=PoolStats(database),
            capacity=Capacity(database, projects, pools),
            lease_stats=LeaseStats(database),
            maintenance=Maintenance(database, notifier, clock, history_days=settings.history_days),
            after_restore=AfterRestore(database),
            key_usage=key_usage,
            reencryption=Reencryption(database, key_ring, key_usage),
            readiness=Readiness(connections.health, process_name, serving=database),
            shutdown=shutdown,
            cache_refresher=CacheRefresher((authentication.refresh, sessions.refresh, projects.refresh)),
            listener=connections.listener,
        )


def _acquiring(
    settings: Settings,
    connections: DatabaseConnections,
    *,
    key_ring: KeyRing,
    projects: Projects,
    pools: Pools,
    credential_check: CredentialCheck,
    refusals: Refusals,
    one_time_codes: OneTimeCodes,
    notifier: Notifier,
    shutdown: Shutdown,
    clock: DatabaseClock,
) -> tuple[WaitingRoom, Acquiring, UserAcquiring]:
    """The rooms granting, waiting and leasing."""
    database, replica_id = connections.database, uuid4()
    limiter = AcquireLimiter(max(1, settings.database_pool_size // 2), shutdown)
    grants = Grants(
        database,
        pools,
        clock,
        limiter,
        credential_check,
        replica_id=replica_id,
        max_batch=_max_batch(settings),
    )
    waiting_room = WaitingRoom(
        database,
        connections.listener,
        notifier,
        pools,
        grants,
        replica_id=replica_id,
        max_waiters=settings.max_waiters,
    )
    hand_over = HandOver(database, key_ring, notifier, one_time_codes)
    acquiring = Acquiring(
        projects,
        OneUser(database),
        grants=grants,
        waiting_room=waiting_room,
        refusals=refusals,
        hand_over=hand_over,
        max_wait=settings.max_wait,
    )
    user_acquiring = UserAcquiring(database, projects, hand_over=hand_over, limiter=limiter, clock=clock)
    return waiting_room, acquiring, user_acquiring


def _single_sign_on(
    settings: Settings, database: Database, key_ring: KeyRing, sessions: Sessions, keys: IssuerKeys
) -> SingleSignOn | None:
    if settings.oidc_issuer is None:
        return None
    secret = settings.oidc_client_secret
    provider = Provider(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id or "",
        client_secret=secret.get_secret_value() if secret else None,
        name=settings.oidc_name,
        scopes=settings.oidc_scopes,
        redirect_uri=f"{settings.public_url}/ui/sign-in/return",
    )
    return SingleSignOn(
        database,
        sessions,
        ProviderFlow(provider, keys, key_ring),
        provider,
        claim=settings.oidc_claim,
        roles=parse_group_roles(settings.oidc_roles),
    )


def _max_batch(settings: Settings) -> int:
    return MAX_BATCH if settings.coalescing else 1


def _bootstrap_token(settings: Settings) -> str | None:
    token = settings.bootstrap_token
    return token.get_secret_value() if token else None
