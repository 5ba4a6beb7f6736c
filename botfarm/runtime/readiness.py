"""Whether this process can serve. The database is asked in the background, so that a probe costs nothing."""

import asyncio
import time

from botfarm import metrics
from botfarm.db.postgres.engine import Database
from botfarm.db.schema.revisions import schema_is_old
from botfarm.db.upkeep import maintenance_queries
from botfarm.errors import DatabaseUnavailableError, UnknownPoolerError
from botfarm.logs import get_logger
from botfarm.services.upkeep.key_usage import KeyUsage

logger = get_logger(__name__)

# Seconds between two checks. Three misses in ten seconds make a process unready; one lost packet does not.
INTERVAL, MISSES = 3.0, 3
# Seconds until wrong or missing keys are checked again, because a check scans all users.
KEYS_INTERVAL = 60.0


class Readiness:
    def __init__(self, database: Database, process_name: str, *, serving: Database) -> None:
        """`database` is for the checks; `serving` is the one that requests use."""
        self._database = database
        self._serving = serving
        self._process_name = process_name
        self._misses = MISSES
        self._draining = False
        self._keys: KeyUsage | None = None
        self._keys_checked = False
        self._wrong_keys: str | None = None
        self._next_check = 0.0
        self.started = False
        """True since the first check that found the process ready."""
        self.why_unready: str | None = "The database has not answered yet."

    async def watch(self, keys: KeyUsage | None = None, *, keys_checked: bool = False) -> None:
        """Checks every few seconds, until cancelled.

        With `keys`, the process is not ready until they were found right.
        """
        self._keys, self._keys_checked = keys, keys_checked
        self._say(self.why_unready)
        while True:
            started = time.monotonic()
            await self.look()
            await asyncio.sleep(max(0.0, INTERVAL - (time.monotonic() - started)))

    def drain(self) -> None:
        """Makes the process unready for good, so that no new requests come."""
        self._draining = True
        self._say("Shutting down.")

    async def look(self) -> None:
        try:
            self._serving.require_own_sessions()
            is_read_only = await self._is_read_only()
            old = not is_read_only and await schema_is_old(self._database)
            wrong_keys = None if is_read_only or old else await self._check_keys()
        except UnknownPoolerError as error:
            metrics.db_up.set(0)
            self._missed(f"The database cannot be used: {error.reason}.", at_once=True)
            return
        except Exception as error:  # a watch that ends would freeze the probes' answer
            metrics.db_up.set(0)
            self._missed("The database does not answer.")
            if not isinstance(error, DatabaseUnavailableError):
                logger.exception("readiness")
            return
        metrics.db_up.set(not is_read_only)
        if is_read_only:
            self._missed("The database is read-only.")
        elif old:
            self._missed("The schema is older than this build: run `botfarm migrate`.", at_once=True)
        elif wrong_keys:
            self._missed(wrong_keys, at_once=True)
        else:
            self._answered()

    def _say(self, why_unready: str | None) -> None:
        self.why_unready = why_unready
        metrics.ready.labels(self._process_name).set(why_unready is None)

    async def _is_read_only(self) -> bool:
        async with self._database.autocommit() as session:
            is_read_only = await maintenance_queries.is_read_only(session)
            if is_read_only:
                await session.invalidate()  # as after a failover: a new connection finds the primary
            return is_read_only

    async def _check_keys(self) -> str | None:
        """Why the keys are wrong, or None.

        Once they are right, checks again only when a request lacked a key.
        """
        keys = self._keys
        if keys and (keys.missed() or not self._keys_checked) and time.monotonic() >= self._next_check:
            self._wrong_keys = await keys.why_unusable()
            self._keys_checked = self._wrong_keys is None
            if self._keys_checked:
                keys.forget_missed()
            else:
                self._next_check = time.monotonic() + KEYS_INTERVAL
        return self._wrong_keys

    def _answered(self) -> None:
        if self._draining:
            return
        if self.why_unready:
            logger.info("ready")
        self.started, self._misses = True, 0
        self._say(None)

    def _missed(self, reason: str, *, at_once: bool = False) -> None:
        self._misses = MISSES if at_once else self._misses + 1
        if self._misses >= MISSES and self.why_unready != reason:
            self._say(reason)
            logger.warning("not ready", reason=reason)
