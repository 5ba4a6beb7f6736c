"""Notifies all replicas that users were freed, where requests wait for them. Debounced.

A release that sees a ticket notifies with its own commit. For a release that sees none, and for all else that frees
users, a statement after the commit looks for tickets.
"""

import asyncio
import time
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)

PAUSE = 0.01
"""Seconds between two statements, because NOTIFY takes a lock of the whole server at its commit."""
QUIET = 0.05
"""Seconds between two releases that notify with their own commits, because these hold the lock during their fsync."""


class Notifier:
    def __init__(self, database: Database, listener: Listener | None) -> None:
        """Without a listener (BOTFARM_NOTIFY=off) no replica listens, so nothing is sent."""
        self._database = database
        self._listener = listener
        self._freed: set[UUID] = set()
        self._sending: asyncio.Task[None] | None = None
        self._turn_taken_at = float("-inf")

    def take_turn(self) -> bool:
        """Whether a release may notify with its own commit, which saves a round trip where users are freed rarely.

        After a statement that fails, NOTIFY may be what failed. So it is left out when the batch is tried again.
        """
        is_quiet = self._listener is not None and time.monotonic() - self._turn_taken_at >= QUIET
        if is_quiet:
            self._turn_taken_at = time.monotonic()
        return is_quiet

    def give_turn_back(self) -> None:
        """Says that the release that took the turn has notified nobody."""
        self._turn_taken_at = float("-inf")

    def freed(self, project_id: UUID) -> None:
        """Notifies that a committed transaction has freed users of the project. A hint, which may be lost."""
        if self._listener is None:
            return
        self._freed.add(project_id)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Sends what is pending."""
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
        # The statement looks for tickets after the commit that freed the users: it sees every ticket that was
        # inserted before, and a request that inserts its ticket later sees the free users. It runs on the
        # listening connection, which is idle and costs a third of a session of the pool, else on a session.
        try:
            if self._listener and await self._listener.say_freed(projects):
                return
            async with self._database.autocommit() as session:
                await ticket_queries.notify(session, projects)
        except DatabaseUnavailableError as error:
            logger.warning("NOTIFY was not sent: waiting requests poll", reason=error.reason)
        except Exception:
            logger.exception("NOTIFY failed")
