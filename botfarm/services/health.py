"""Whether this process can serve: asked of the database in the background, so that a probe costs nothing."""

import asyncio
import time

from botfarm import metrics
from botfarm.db.engine import Database
from botfarm.db.schema import schema_is_old
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)

# Three misses in ten seconds make a process unready: one lost packet does not.
INTERVAL, MISSES = 3.0, 3


class Health:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._misses = MISSES
        self._draining = False
        self.started = False
        """True from the first good answer on."""
        self.why_unready: str | None = "The database has not answered yet."

    async def watch(self) -> None:
        """Looks every few seconds, until cancelled."""
        while True:
            started = time.monotonic()
            await self.look()
            await asyncio.sleep(max(0.0, INTERVAL - (time.monotonic() - started)))

    def drain(self) -> None:
        """Says for good that no new requests should come."""
        self._draining = True
        self.why_unready = "Shutting down."

    async def look(self) -> None:
        try:
            old = await schema_is_old(self._database)
        except Exception as error:  # a watch that ends would freeze what the probes say
            metrics.db_up.set(0)
            self._missed("The database does not answer.")
            if not isinstance(error, DatabaseUnavailableError):
                logger.exception("readiness")
            return
        metrics.db_up.set(1)
        if old:
            self._missed("The schema is older than this build: run `botfarm migrate`.", at_once=True)
        else:
            self._answered()

    def _answered(self) -> None:
        if self._draining:
            return
        if self.why_unready:
            logger.info("ready")
        self.started, self.why_unready, self._misses = True, None, 0

    def _missed(self, reason: str, *, at_once: bool = False) -> None:
        self._misses = MISSES if at_once else self._misses + 1
        if self._misses >= MISSES and self.why_unready != reason:
            self.why_unready = reason
            logger.warning("not ready", reason=reason)
