"""Says to all replicas that users were freed: soon, seldom, and only where somebody waits."""

import asyncio
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)

PAUSE = 0.01
"""Seconds between two statements: NOTIFY takes a lock of the whole server at its commit, so nobody may do it often."""


class Notifier:
    def __init__(self, database: Database, listener: Listener | None) -> None:
        """Without a listener nobody listens elsewhere either: then nothing is said."""
        self._database = database
        self._listener = listener
        self._freed: set[UUID] = set()
        self._sending: asyncio.Task[None] | None = None

    def freed(self, project_id: UUID) -> None:
        """Users of the project were freed, by a transaction that has been committed. A hint, which may be lost."""
        if self._listener is None:
            return
        self._freed.add(project_id)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def close(self) -> None:
        """What was said before is sent."""
        if self._sending:
            await self._sending

    async def _send(self) -> None:
        try:
            while self._freed:
                projects, self._freed = self._freed, set()
                await self._notify(projects)
                await asyncio.sleep(PAUSE)
        finally:
            self._sending = None

    async def _notify(self, projects: set[UUID]) -> None:
        # Whether somebody waits is asked here, after the commit: who registered before it is seen, and who does so
        # later sees what the commit freed.
        # On the listening connection, which is idle and costs a third of a session of the pool; else on one of these.
        try:
            if self._listener and await self._listener.say_freed(projects):
                return
            async with self._database.autocommit() as session:
                await ticket_queries.notify(session, projects)
        except DatabaseUnavailableError as error:
            logger.warning("nobody was woken: who waits looks by itself", reason=error.reason)
        except Exception:
            logger.exception("notify")
