"""Keeps count of the requests that got no user, and stores the counts some seconds later.

A process that is killed loses the counts of its last seconds. No count is stored twice.
"""

import asyncio
import contextlib
import time

from botfarm.db.leasing import refusal_queries
from botfarm.db.leasing.refusal_queries import Refusal, RefusalResult, RefusedRequests
from botfarm.db.postgres.engine import Database
from botfarm.domain.leases import LeaseRequest
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)

STORED_AFTER = 5.0
"""Seconds."""
MAX_KINDS = 1_000
"""Kinds of requests in memory; more are stored at once."""


class Refusals:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._refused: dict[Refusal, RefusedRequests] = {}
        self._storing: asyncio.Task[None] | None = None
        self._is_due = asyncio.Event()

    def add(self, request: LeaseRequest, result: RefusalResult) -> None:
        waited = max(0.0, time.monotonic() - request.received_at)
        kind = Refusal(
            request.pool,
            request.purpose,
            result,
            frozenset(request.labels.items()),
            request.count,
            request.priority,
            request.wait_seconds,
        )
        total = self._refused.setdefault(kind, RefusedRequests())
        total.requests += 1
        total.waited += waited
        total.longest_wait = max(total.longest_wait, waited)
        if len(self._refused) >= MAX_KINDS:
            self._is_due.set()
        if self._storing is None:
            self._storing = asyncio.create_task(self._store_later())

    async def close(self) -> None:
        """Stores what is in memory."""
        self._is_due.set()
        if self._storing:
            await self._storing

    async def _store_later(self) -> None:
        while self._refused:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_due.wait(), STORED_AFTER)
            self._is_due.clear()
            refused, self._refused = self._refused, {}
            try:
                async with self._database.autocommit() as session:
                    await refusal_queries.count_refusals(session, refused)
            except DatabaseUnavailableError as error:
                # It may have stored them: another try could count them twice.
                logger.warning("refused requests are not counted", kinds=len(refused), reason=error.reason)
            except Exception:  # the counts of later requests must still be stored
                logger.exception("refused requests are not counted", kinds=len(refused))
        self._storing = None
