"""A farm for tests: its services, short ways to fill it, and to expire its leases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import UUID

import asyncpg

from botfarm.crypto.key_ring import generate_key
from botfarm.db.postgres.engine import Database, create_engine
from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import Grant, Lease, LeaseTerms, Outcome, Purpose, Reason, Verdict
from botfarm.domain.pools import Pool
from botfarm.domain.projects import Project, ProjectPolicy
from botfarm.domain.users import User
from botfarm.domain.wanted_labels import WantedLabels
from botfarm.runtime.services import Services, open_services
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.settings import Settings, load_settings
from support.postgres import served

TOKEN = "a-bootstrap-token-for-tests"
KEYS = generate_key("test")
PASSWORD = "correct horse battery staple"
RUNNER = Principal("runner-1", Role.RUNNER, EVERYTHING)
KEEPER = Principal("keeper", Role.KEEPER, EVERYTHING)
MANAGER = Principal("manager", Role.ADMIN, EVERYTHING)
OTHER_RUNNER = Principal("runner-2", Role.RUNNER, EVERYTHING)
_numbers = count(1)


def test_settings(database_url: str, /, **overrides: object) -> Settings:
    """Of a farm on the owner's URL, which it serves with the role that may not change the tables."""
    chosen = {
        "database_url": served(database_url),
        "owner_url": database_url,
        "encryption_keys": KEYS,
        "bootstrap_token": TOKEN,
        "port": 0,
        "worker_port": 0,
        **overrides,
    }
    return load_settings(**chosen)


test_settings.__test__ = False  # a helper, whatever its name says to pytest


class Connection:
    """The connection of a caller: open until `close` is called."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self._closed = asyncio.Event()
        if is_closed:
            self.close()

    def close(self) -> None:
        self._closed.set()

    async def is_closed(self) -> bool:
        return self._closed.is_set()

    async def until_closed(self) -> None:
        await self._closed.wait()


@dataclass
class Farm:
    services: Services
    sql: asyncpg.Connection
    """A connection of the test's own, to look and to set the stage."""
    database: Database
    """For statements under forced order: its sessions are not those of the services."""

    async def project(self, **policy: Any) -> Project:
        return await self.services.projects.create(
            MANAGER, project_id=None, name=f"project-{next(_numbers)}", policy=ProjectPolicy(**policy)
        )

    async def pool(self, users: int, **policy: Any) -> Pool:
        project = await self.project(**policy)
        pool = Pool(project.id, "stage", "regular")
        for _ in range(users):
            await self.user(pool)
        return pool

    async def user(self, pool: Pool, **labels: str) -> User:
        login = f"user-{next(_numbers)}@shop.test"
        return await self.services.users.create(
            MANAGER, login=login, password=PASSWORD, pool=pool, labels=labels
        )

    async def acquire(self, pool: Pool, principal: Principal = RUNNER, **wanted: object) -> Lease:
        return (await self.grant(pool, principal, **wanted)).lease

    async def chore(self, pool: Pool, **wanted: Any) -> Lease:
        return await self.acquire(pool, KEEPER, purpose=Purpose.CHORE, **wanted)

    async def release(
        self, lease: Lease, outcome: Outcome = Outcome.OK, reason: Reason | None = None
    ) -> Lease:
        """By its holder."""
        holder = KEEPER if lease.principal == KEEPER.name else RUNNER
        return await self.services.leases.release(holder, lease.id, Verdict(outcome, reason))

    async def seen(self, user_id: UUID) -> User:
        return await self.services.users.get(EVERYTHING, user_id)

    async def grant(
        self,
        pool: Pool,
        principal: Principal = RUNNER,
        *,
        user: str | None = None,
        labels: WantedLabels | None = None,
        count: int = 1,
        purpose: Purpose = Purpose.TEST,
        wait_seconds: float = 0,
        connection: CallerConnection | None = None,
        **terms: object,
    ) -> Grant:
        return await self.services.acquiring.acquire_lease(
            principal,
            project=pool.project_id,
            env=pool.env,
            domain=pool.domain,
            user=user,
            labels=labels or {},
            count=count,
            priority=0,
            terms=LeaseTerms(**terms),
            purpose=purpose,
            wait_seconds=wait_seconds,
            connection=connection or Connection(),
        )

    async def lock(
        self,
        user_id: UUID,
        principal: Principal = RUNNER,
        *,
        connection: CallerConnection | None = None,
        **terms: object,
    ) -> Grant:
        return await self.services.user_acquiring.acquire_lock(
            principal, user_id, LeaseTerms(**terms), connection=connection or Connection()
        )

    async def until_blocked(self, sessions: int = 1) -> None:
        """Until so many sessions of this database wait for a lock."""
        waiting = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        async with asyncio.timeout(60):
            while await self.sql.fetchval(waiting) < sessions:
                await asyncio.sleep(0.01)

    async def expire(self, lease_id: UUID, *, rested: bool = False) -> None:
        """As if the lease had been taken long ago; with `rested`, its lock-delay has passed too."""
        await self.sql.execute(
            """UPDATE leases SET acquired_at = acquired_at - interval '1 day', expires_at = clock_timestamp()
               - interval '1 second' WHERE id = $1""",
            lease_id,
        )
        await self.sql.execute(
            """UPDATE users SET locktime = locktime - interval '1 day', expires_at = clock_timestamp()
               - interval '1 second', available_at = CASE WHEN $2 THEN clock_timestamp() ELSE available_at END
               WHERE lease_id = $1""",
            lease_id,
            rested,
        )


@asynccontextmanager
async def open_farm(database_url: str, **overrides: object) -> AsyncIterator[Farm]:
    settings = test_settings(database_url, **overrides)
    # Tests hold locks for longer than a request may.
    engine = create_engine(database_url, application_name="test", pool_size=20, patience=60)
    database = Database(engine, patience=60)
    sql = await asyncpg.connect(database_url)
    try:
        async with open_services(settings, "test") as services:
            yield Farm(services, sql, database)
    finally:
        await sql.close()
        await database.dispose()
