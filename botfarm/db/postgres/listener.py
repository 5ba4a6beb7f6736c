"""The connection of a process for LISTEN and NOTIFY, which say that users were freed.

Notifications are hints: a replica with waiting requests also looks from time to time.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterator
from uuid import UUID

import asyncpg

from botfarm.db.postgres.multi_host import connect
from botfarm.logs import get_logger

logger = get_logger(__name__)

CHANNEL_PREFIX = "botfarm_"
"""Followed by the project's id in 32 hexadecimal digits."""

# Only for projects with waiting requests, because NOTIFY takes a lock of the whole server.
SAY_FREED = f"""
    SELECT freed.id, pg_notify('{CHANNEL_PREFIX}' || replace(CAST(freed.id AS text), '-', ''), '')
    FROM {{freed}} AS freed (id)
    WHERE EXISTS (SELECT FROM tickets AS t WHERE t.project_id = freed.id)"""
_SAY_FREED = SAY_FREED.format(freed="unnest(CAST($1 AS uuid[]))")

# Seconds. Only a query notices that a server is gone without closing the connection.
PING_INTERVAL, PATIENCE = 5.0, 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# asyncpg raises the last one between the server's last message and the end of the connection.
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

Wake = Callable[[UUID | None], None]
"""Called with the project whose users were freed, or with None when users of any project may have been."""


class Listener:
    def __init__(self, url: str, *, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()  # a connection takes one query at a time
        self._projects: set[UUID] = set()
        self._wakes: list[Wake] = []

    @property
    def is_connected(self) -> bool:
        """Whether notifications arrive. Otherwise they may be missed."""
        return self._connection is not None

    def call(self, wake: Wake) -> None:
        self._wakes.append(wake)

    async def listen(self, project_id: UUID) -> None:
        """Subscribes to the project. If the connection is down, the subscription starts when it is back."""
        if project_id in self._projects:
            return
        async with self._turn:
            connection = self._connection
            if connection is not None and project_id not in self._projects:
                try:
                    await asyncio.wait_for(self._add(connection, project_id), PATIENCE)
                except _LOST:
                    connection.terminate()  # `watch` makes a new one
            self._projects.add(project_id)

    async def say_freed(self, projects: Collection[UUID]) -> bool:
        """Notifies all processes that users of these projects were freed.

        False when this connection could not.
        """
        async with self._turn:
            connection = self._connection
            if connection is None:
                return False
            try:
                await connection.fetch(_SAY_FREED, list(projects), timeout=PATIENCE)
            except _LOST:
                connection.terminate()  # `watch` makes a new one
                return False
            return True

    async def watch(self) -> None:
        """Keeps the connection, until cancelled. Wakes all waiting requests whenever it is made or lost."""
        pause = FIRST_PAUSE
        while True:
            lost = asyncio.Event()
            try:
                with await self._connect(lost):
                    pause = FIRST_PAUSE
                    await self._ping(lost)
            except (ValueError, *_LOST) as error:
                if pause == FIRST_PAUSE:
                    reason = f"{type(error).__name__} {error}".splitlines()[0][:300]
                    logger.warning("not listening", reason=reason)
            # Random, because replicas should not reconnect all at once.
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _connect(self, lost: asyncio.Event) -> contextlib.AbstractContextManager[None]:
        settings = {"application_name": self._application_name}
        connection = await connect(self._url, server_settings=settings, timeout=PATIENCE)
        try:
            connection.add_termination_listener(lambda _: lost.set())
            async with self._turn:
                for project_id in self._projects:
                    await asyncio.wait_for(self._add(connection, project_id), PATIENCE)
                self._connection = connection
        except BaseException:
            connection.terminate()
            raise
        return self._connected(connection)

    @contextlib.contextmanager
    def _connected(self, connection: asyncpg.Connection) -> Iterator[None]:
        self._wake(None)  # notifications of the meantime are lost
        try:
            yield
        finally:
            self._connection = None
            connection.terminate()
            self._wake(None)  # waiting requests look more often without a listener

    async def _ping(self, lost: asyncio.Event) -> None:
        connection = self._connection
        while connection is not None and not lost.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lost.wait(), PING_INTERVAL)
                return
            async with self._turn:
                await connection.execute("SELECT 1", timeout=PATIENCE)

    async def _add(self, connection: asyncpg.Connection, project_id: UUID) -> None:
        await connection.add_listener(f"{CHANNEL_PREFIX}{project_id.hex}", lambda *_: self._wake(project_id))

    def _wake(self, project_id: UUID | None) -> None:
        for wake in self._wakes:
            wake(project_id)
