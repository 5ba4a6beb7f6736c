"""One connection for each process on which it hears, and says, that users were freed.

A hint: whoever waits also looks now and then.
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
"""Before the project's id in 32 hexadecimal digits."""

# Of those projects that somebody waits for users of: NOTIFY takes a lock of the whole server.
SAY_FREED = f"""
    SELECT pg_notify('{CHANNEL_PREFIX}' || replace(freed.id::text, '-', ''), '')
    FROM unnest(CAST({{projects}} AS uuid[])) AS freed (id)
    WHERE EXISTS (SELECT FROM tickets AS t WHERE t.project_id = freed.id)"""
_SAY_FREED = SAY_FREED.format(projects="$1")

# Seconds. A server that is gone without a word is noticed by nothing but a question.
PING_INTERVAL, PATIENCE = 5.0, 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
# The last one is what the driver says after the server's last word, until the server has hung up.
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

Wake = Callable[[UUID | None], None]
"""Called with the project whose users were freed; with None when some may have been, of any."""


class Listener:
    def __init__(self, url: str, *, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()  # a connection does one thing at a time
        self._projects: set[UUID] = set()
        self._wakes: list[Wake] = []

    @property
    def is_connected(self) -> bool:
        """Else wakes may be missed."""
        return self._connection is not None

    def call(self, wake: Wake) -> None:
        self._wakes.append(wake)

    async def listen(self, project_id: UUID) -> None:
        """From the return on, wakes of the project arrive, if the connection stands; else from when it does."""
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
        """Wakes those who wait for users of these projects, in all processes. False when that could not be said here."""
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
        """Keeps the connection, until cancelled. Each time that it comes or goes, everybody is woken."""
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
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  replicas do not come back all at once
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
        self._wake(None)  # what was said meanwhile is lost
        try:
            yield
        finally:
            self._connection = None
            connection.terminate()
            self._wake(None)  # they look more often now

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
