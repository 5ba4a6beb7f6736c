"""Replicas of a waiting room, with the simplest grant that keeps to its contract."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import text

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.postgres.listener import Listener
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import WaitingRequest
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.pool_counting import PoolCounting
from botfarm.services.waiting.waiting_room import WaitingRoom
from support.farm import Farm
from support.postgres import served

# The user is taken for an hour, by nobody in particular.
GRANT = text("""
    WITH ticket AS MATERIALIZED (
        DELETE FROM tickets WHERE id = :ticket AND replica = :replica AND deadline > clock_timestamp() RETURNING id
    ),
    free AS MATERIALIZED (
        SELECT u.id FROM users AS u, ticket
        WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND u.status = 'active'
          AND u.available_at <= clock_timestamp() AND u.labels @> CAST(:labels AS jsonb)
        LIMIT :count FOR UPDATE OF u SKIP LOCKED
    )
    UPDATE users SET available_at = clock_timestamp() + interval '1 hour' FROM free WHERE users.id = free.id
    RETURNING users.id""")
BY_KEY = text("SELECT user_ids FROM leases WHERE principal = :principal AND idempotency_key = :key")


@dataclass(frozen=True)
class Users:
    """What is granted."""

    ids: frozenset[UUID]
    replayed: bool = False


@dataclass
class Replica:
    room: WaitingRoom[Users]
    id: UUID
    database: Database
    notifier: Notifier
    listener: Listener | None
    order: list[str]
    """The owners of requests as they were granted, on all replicas."""
    before_grant: Callable[[], Awaitable[object]] | None = None
    before_commit: Callable[[], Awaitable[object]] | None = None
    calls: list[WaitingRequest] = field(default_factory=list)
    tasks: list["asyncio.Task[Users]"] = field(default_factory=list)

    async def grant(self, request: WaitingRequest, ticket_id: int) -> Users | None:
        self.calls.append(request)
        if self.before_grant:
            await self.before_grant()
        if request.payload is not None:
            assert isinstance(request.payload, Exception)
            raise request.payload
        parameters = {
            "ticket": ticket_id,
            "replica": self.id,
            "project_id": request.pool.project_id,
            "env": request.pool.env.value,
            "domain": request.pool.domain.value,
            "labels": _json(request.labels),
            "count": request.count,
        }
        if request.idempotency_key:
            async with self.database.autocommit() as session:
                key = {"principal": request.principal, "key": request.idempotency_key}
                if ids := await session.scalar(BY_KEY, key):
                    return Users(frozenset(ids), replayed=True)
        async with self.database.transaction() as session:
            ids = frozenset((await session.execute(GRANT, parameters)).scalars())
            if len(ids) < request.count:
                await session.rollback()
                return None
            if request.idempotency_key:
                await session.execute(_LEASE, {**parameters, "ids": list(ids), **_of(request)})
            if self.before_commit:
                await self.before_commit()
        self.order.append(request.owner or "")
        return Users(ids)

    def wait(self, pool: Pool, *, wait_seconds: float = 30, ago: float = 0, **wanted: Any) -> "Waiting":
        """A request that was received so many seconds ago."""
        hung_up = asyncio.Event()
        request = WaitingRequest(**{"pool": pool, "principal": "runner", **wanted})

        async def granted() -> Users:
            users, _ = await self.room.wait(
                request, started=time.monotonic() - ago, wait_seconds=wait_seconds, gone=_until(hung_up)
            )
            return users

        task = asyncio.create_task(granted())
        self.tasks.append(task)
        return Waiting(task, hung_up)


@dataclass
class Waiting:
    task: "asyncio.Task[Users]"
    _hung_up: asyncio.Event

    def hang_up(self) -> None:
        self._hung_up.set()

    def __await__(self) -> Any:
        return asyncio.wait_for(self.task, 20).__await__()


_LEASE = text("""
    INSERT INTO leases (fence, principal, operation, project_id, env, domain, user_ids, acquired_at, expires_at,
                        ttl_seconds, hold_until, idempotency_key, fingerprint)
    SELECT nextval('fence'), :principal, 'acquire_lease', :project_id, :env, :domain, CAST(:ids AS uuid[]), now, now, 1, now,
           :key, :fingerprint FROM (SELECT clock_timestamp() AS now) AS c""")


def _of(request: WaitingRequest) -> dict[str, object]:
    return {
        "principal": request.principal,
        "key": request.idempotency_key,
        "fingerprint": request.fingerprint,
    }


def _json(labels: Any) -> str:
    return "{" + ", ".join(f'"{name}": "{value}"' for name, value in labels.items()) + "}"


async def _until(event: asyncio.Event) -> None:
    await event.wait()


class Replicas:
    """Any number of them on one database; and what a test does to the users."""

    def __init__(self, farm: Farm, url: str, *, notify: bool) -> None:
        self.farm = farm
        self._url = url
        self.notify = notify
        self.order: list[str] = []

    @asynccontextmanager
    async def replica(
        self, *, listen_url: str | None = None, pool_size: int = 5, max_waiters: int = 2_000
    ) -> AsyncIterator[Replica]:
        engine = create_engine(served(self._url), application_name="replica", pool_size=pool_size)
        database = Database(engine)
        listener = Listener(listen_url or served(self._url), application_name="replica-listen")
        notifier = Notifier(database, listener if self.notify else None)
        replica_id = uuid4()
        watching = asyncio.create_task(listener.watch()) if self.notify else None
        made: list[Replica] = []

        async def grant(request: WaitingRequest, ticket_id: int) -> Users | None:
            return await made[0].grant(request, ticket_id)

        room = WaitingRoom[Users](
            database,
            listener if self.notify else None,
            notifier,
            PoolCounting(database),
            replica_id=replica_id,
            max_waiters=max_waiters,
            grant=grant,
        )
        made.append(Replica(room, replica_id, database, notifier, listener, self.order))
        try:
            if watching:
                await until(lambda: listener.is_connected)
            yield made[0]
        finally:
            room.stop()
            await asyncio.gather(*made[0].tasks, return_exceptions=True)
            await room.close()
            await notifier.close()
            if watching:
                watching.cancel()
                await asyncio.wait({watching})
            await database.dispose()

    async def occupy(self, pool: Pool) -> None:
        """All users are taken, for an hour."""
        await self.farm.sql.execute(
            "UPDATE users SET available_at = clock_timestamp() + interval '1 hour' WHERE project_id = $1",
            pool.project_id,
        )

    async def free(
        self, replica: Replica, pool: Pool, users: int = 1, *, labels: str = "{}", say_so: bool = True
    ) -> None:
        """As a release does it: committed, then said."""
        await self.farm.sql.execute(
            """UPDATE users SET available_at = clock_timestamp() WHERE id IN (
                   SELECT id FROM users WHERE project_id = $1 AND available_at > clock_timestamp() AND labels @> $3::jsonb
                   ORDER BY id LIMIT $2)""",
            pool.project_id,
            users,
            labels,
        )
        if say_so:
            replica.notifier.freed(pool.project_id)

    async def tickets(self, condition: str = "true") -> list[Any]:
        return list(await self.farm.sql.fetch(f"SELECT * FROM tickets WHERE {condition} ORDER BY rank, id"))

    async def until_parked(self, count: int = 1) -> None:
        """Until so many requests wait, on all replicas."""
        async with asyncio.timeout(60):
            while len(await self.tickets("replica IS NOT NULL")) < count:
                await asyncio.sleep(0.005)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)
