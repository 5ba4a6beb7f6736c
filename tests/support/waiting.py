"""Replicas of the waiting room on one database, with the real grants, which a test can hold up."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from typing_extensions import override

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.postgres.listener import Listener
from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import Grant, LeaseRequest, LeaseTerms, Purpose
from botfarm.domain.pools import Pool, PoolCounts
from botfarm.domain.users import User
from botfarm.domain.wanted_labels import WantedLabels
from botfarm.services.access.credential_check import CredentialCheck
from botfarm.services.access.login_throttle import LoginThrottle
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.sessions import Sessions
from botfarm.services.access.token_authentication import TokenAuthentication
from botfarm.services.granting.acquire_limiter import AcquireLimiter
from botfarm.services.granting.grants import Grants, IsItsTurn
from botfarm.services.shared.database_clock import DatabaseClock
from botfarm.services.shared.notifier import Notifier
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.stock.pools import Pools
from botfarm.services.waiting.waiting_room import WaitingRoom
from support.farm import KEYS, Connection, Farm
from support.postgres import served

# Tests hold locks for longer than a request may.
PATIENCE = 60.0

# The trigger runs at the end of the statement that grants: the ticket is deleted, the lease is there, nothing
# is committed.
HOLD_GRANTS = """
    CREATE FUNCTION hold_grant() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END';
    CREATE TRIGGER hold_grant AFTER INSERT ON leases FOR EACH ROW EXECUTE FUNCTION hold_grant();
    SELECT pg_advisory_lock(4711)"""
LET_GRANTS_GO = """
    SELECT pg_advisory_unlock(4711);
    DROP TRIGGER hold_grant ON leases;
    DROP FUNCTION hold_grant"""


class ObservedGrants(Grants):
    """The real grants.

    They say which requests were tried, and a test can make each try wait before its statement.
    """

    before_grant: Callable[[], Awaitable[object]] | None = None

    def __init__(self, order: list[str], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._order = order
        self.tries: list[LeaseRequest] = []
        self.first_tries: list[LeaseRequest] = []
        """Those without a reading of the queue."""

    @override
    async def grant_ticket(
        self, request: LeaseRequest, ticket_id: int, *, is_its_turn: IsItsTurn
    ) -> Grant | None:
        await self._try(request)
        grant = await super().grant_ticket(request, ticket_id, is_its_turn=is_its_turn)
        return self._noted(request, grant)

    @override
    async def grant_first(self, request: LeaseRequest, ticket_id: int) -> Grant | None:
        self.first_tries.append(request)
        await self._try(request)
        return self._noted(request, await super().grant_first(request, ticket_id))

    async def _try(self, request: LeaseRequest) -> None:
        self.tries.append(request)
        if self.before_grant:
            await self.before_grant()

    def _noted(self, request: LeaseRequest, grant: Grant | None) -> Grant | None:
        if grant is not None and not grant.replayed:
            self._order.append(request.terms.owner or "")
        return grant


@dataclass
class Replica:
    room: WaitingRoom
    id: UUID
    database: Database
    notifier: Notifier
    listener: Listener | None
    grants: ObservedGrants
    tasks: list["asyncio.Task[Grant]"] = field(default_factory=list)

    def wait(
        self,
        pool: Pool,
        *,
        principal: str = "runner",
        max_leases: int | None = None,
        labels: WantedLabels | None = None,
        user_id: UUID | None = None,
        count: int = 1,
        priority: int = 0,
        wait_seconds: float = 30,
        ago: float = 0,
        **terms: Any,
    ) -> "Waiting":
        """A request that was received `ago` seconds before."""
        caller = Principal(principal, Role.RUNNER, EVERYTHING, max_leases)
        request = LeaseRequest(
            caller, pool, labels or {}, count, priority, LeaseTerms(**terms), user_id=user_id
        )
        connection = Connection()

        async def granted() -> Grant:
            grant, _ = await self.room.wait(
                request, connection, started=time.monotonic() - ago, wait_seconds=wait_seconds
            )
            return grant

        task = asyncio.create_task(granted())
        self.tasks.append(task)
        return Waiting(task, connection)

    async def ask(self, pool: Pool, *, user_id: UUID | None = None, **terms: Any) -> Grant | PoolCounts:
        """A request that does not wait."""
        caller = Principal("runner", Role.RUNNER, EVERYTHING)
        request = LeaseRequest(caller, pool, {}, 1, 0, LeaseTerms(**terms), user_id=user_id)
        return await self.grants.grant_now(request, will_wait=False, deadline=time.monotonic() + PATIENCE)

    async def until_read(self, pool: Pool) -> None:
        """Until it has read the queue of tests with a ticket in it."""
        queues, queue = self.room._queues, (pool, Purpose.TEST)
        await until(lambda: queue in queues and queues[queue]._first is not None)

    async def until_at_rest(self, pool: Pool) -> None:
        """Until its requests have joined the queue of tests and read it, and it is read again only when it is woken."""
        await self.until_read(pool)
        joining, clock = self.room._waiters._joining, asyncio.get_running_loop()
        reading = self.room._queues[pool, Purpose.TEST]._loop
        await until(lambda: not any(joining.values()) and clock.time() + 60 < reading._due_at < float("inf"))

    async def until_leaving(self) -> None:
        """Until each of its requests has noticed that its wait is over."""
        await until(lambda: all(waiter.is_leaving for waiter in self.room._waiters))


@dataclass
class Waiting:
    task: "asyncio.Task[Grant]"
    _connection: Connection

    def hang_up(self) -> None:
        self._connection.close()

    def __await__(self) -> Any:
        return asyncio.wait_for(self.task, 60).__await__()


class Replicas:
    """Any number of replicas on one database, and the changes that a test makes to the users."""

    def __init__(self, farm: Farm, url: str, *, notify: bool) -> None:
        self.farm = farm
        self._url = url
        self.notify = notify
        self.order: list[str] = []
        """The owners of the requests in the order of their grants, on all replicas."""

    @asynccontextmanager
    async def replica(
        self, *, listen_url: str | None = None, pool_size: int = 5, max_waiters: int = 2_000
    ) -> AsyncIterator[Replica]:
        engine = create_engine(
            served(self._url), application_name="replica", pool_size=pool_size, patience=PATIENCE
        )
        database = Database(engine, patience=PATIENCE)
        listener = Listener(listen_url or served(self._url), application_name="replica-listen")
        heard = listener if self.notify else None
        notifier, pools, passwords = Notifier(database, heard), Pools(database), Passwords()
        replica_id, shutdown = uuid4(), Shutdown()
        sessions = Sessions(database, KeyRing.parse(KEYS), passwords, LoginThrottle(), shutdown)
        grants = ObservedGrants(
            self.order,
            database,
            pools,
            DatabaseClock(),
            AcquireLimiter(pool_size, shutdown),
            CredentialCheck(TokenAuthentication(database, None), sessions),
            replica_id=replica_id,
            max_batch=64,
        )
        room = WaitingRoom(
            database, heard, notifier, pools, grants, replica_id=replica_id, max_waiters=max_waiters
        )
        replica = Replica(room, replica_id, database, notifier, listener, grants)
        watching = asyncio.create_task(listener.watch()) if self.notify else None
        try:
            if watching:
                await until(lambda: listener.is_connected)
            yield replica
        finally:
            room.stop()
            await asyncio.gather(*replica.tasks, return_exceptions=True)
            await room.close()
            await notifier.close()
            if watching:
                watching.cancel()
                await asyncio.wait({watching})
            passwords.close()
            await database.dispose()

    @asynccontextmanager
    async def held_grants(self) -> AsyncIterator[None]:
        """In the block, a grant waits for a lock at the end of its statement, before it is committed."""
        await self.farm.sql.execute(HOLD_GRANTS)
        try:
            yield
        finally:
            await self.farm.sql.execute(LET_GRANTS_GO)

    async def occupied_pool(self, users: int = 1, **labels: str) -> Pool:
        """A pool of which no user is free."""
        pool = await self.farm.pool(0)
        for _ in range(users):
            await self.farm.user(pool, **labels)
        await self.occupy(pool)
        return pool

    async def occupy(self, pool: Pool) -> None:
        """Takes all users, for an hour."""
        await self.farm.sql.execute(
            "UPDATE users SET available_at = clock_timestamp() + interval '1 hour' WHERE project_id = $1",
            pool.project_id,
        )

    async def free(
        self, replica: Replica, pool: Pool, users: int = 1, *, labels: str = "{}", notify: bool = True
    ) -> None:
        """Frees users as a release does: commits, then notifies."""
        await self.farm.sql.execute(
            """UPDATE users SET available_at = clock_timestamp() WHERE id IN (
                   SELECT id FROM users
                   WHERE project_id = $1 AND available_at > clock_timestamp() AND labels @> $3::jsonb
                   ORDER BY id LIMIT $2)""",
            pool.project_id,
            users,
            labels,
        )
        if notify:
            replica.notifier.freed(pool.project_id)

    async def free_users(self, replica: Replica, *users: User) -> None:
        """Frees these users as releases do."""
        await self.farm.sql.execute(
            "UPDATE users SET available_at = clock_timestamp() WHERE id = ANY ($1)",
            [user.id for user in users],
        )
        replica.notifier.freed(users[0].pool.project_id)

    async def tickets(self, condition: str = "true") -> list[Any]:
        return list(await self.farm.sql.fetch(f"SELECT * FROM tickets WHERE {condition} ORDER BY rank, id"))

    async def until_waiting(self, count: int = 1) -> None:
        """Until so many requests wait, on all replicas."""
        async with asyncio.timeout(60):
            while len(await self.tickets("replica IS NOT NULL")) < count:
                await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
