"""The bell of open pages: one query a second for a process while at least one page is open, none otherwise."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import TracebackType
from typing import Self

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import change_queries
from botfarm.db.stock.change_queries import LATE, Look, Place
from botfarm.domain.access import Principal, Scope
from botfarm.errors import ShuttingDownError, SlowDownError, UnavailableError
from botfarm.logs import get_logger
from botfarm.services.shared.shutdown import Shutdown

logger = get_logger(__name__)

INTERVAL = 1.0
"""Seconds between two looks."""
MAX_READERS = 500
"""Of one process, because each holds a connection and 60 kB."""
RINGS_PER_SECOND = 60
"""Where every second has a change. A page fetches when it is rung, which takes 6 to 8 ms of processor time."""
MAX_OWN_READERS = 50
"""Of one principal, so that it leaves streams for others."""
RETRY_AFTER = 30
"""Seconds. Until then the page polls."""


class FarmChanges:
    def __init__(self, database: Database, shutdown: Shutdown) -> None:
        self._database = database
        self._shutdown = shutdown
        self._readers: set[Reader] = set()
        self._watching: asyncio.Task[None] | None = None

    def subscribe(self, principal: Principal) -> "Reader":
        """A reader that is woken by changes of what the principal sees. Close it.

        Raises SlowDownError when as many read as one process serves, or as one principal may have.
        """
        own = sum(reader.name == principal.name for reader in self._readers)
        if len(self._readers) >= MAX_READERS or own >= MAX_OWN_READERS:
            raise SlowDownError("Too many pages are open at this replica.", retry_after=RETRY_AFTER)
        reader = Reader(principal, self._readers)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return reader

    async def close(self) -> None:
        if self._watching:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        """Looks while somebody reads. Ends all readers when the process shuts down."""
        known = _Known()
        try:
            while self._readers:
                await self._look(known)
                await self._shutdown.pause(INTERVAL)
        except ShuttingDownError:
            pass
        finally:
            self._watching = None
            for reader in self._readers:
                reader.end()

    async def _look(self, known: "_Known") -> None:
        readers = list(self._readers)
        try:
            async with self._database.autocommit() as session:
                look = await change_queries.look(
                    session, grants_after=known.grants.after, deeds_after=known.deeds.after
                )
        except Exception as error:
            if not isinstance(error, UnavailableError):  # which the engine has logged
                logger.exception("looking for changes failed")
            for reader in readers:
                reader.is_due = True  # its page may have asked in vain meanwhile
            return
        changed = known.changes(look)
        concerns = cache(lambda scope: _concerns(scope, changed))
        # Up to 60 readers may ring at every look. The more there are, the longer each waits for its next ring.
        latest = asyncio.get_running_loop().time() + INTERVAL - len(readers) / RINGS_PER_SECOND
        for reader in readers:
            reader.is_due = reader.is_due or concerns(reader.scope)
            if reader.is_due and reader.rung_at <= latest:
                reader.ring()


class Reader:
    """A page that is open, until it is closed."""

    def __init__(self, principal: Principal, readers: "set[Reader]") -> None:
        self.name = principal.name
        self.scope = principal.scope
        self.is_due = True
        """At first, because its page was read before it subscribed: the first look rings, whatever it sees."""
        self.rung_at = float("-inf")
        self._readers = readers
        self._rung = asyncio.Event()
        self._rings = 0
        self._has_ended = False
        readers.add(self)

    async def next_ring(self, seconds: float) -> int | None:
        """Waits until something has changed since the last call: the number of the ring.

        None after that many seconds. Raises ShuttingDownError.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return None
        if self._has_ended:
            raise ShuttingDownError
        self._rung.clear()
        return self._rings

    def ring(self) -> None:
        self.is_due = False
        self.rung_at = asyncio.get_running_loop().time()
        self._rings += 1
        self._rung.set()

    def end(self) -> None:
        self._has_ended = True
        self._rung.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.discard(self)


class _Known:
    """The marks and numbers that earlier looks have read."""

    def __init__(self) -> None:
        self._marks: Mapping[tuple[str, Place], str] = {}
        self.grants, self.deeds = _Numbers(), _Numbers()

    def changes(self, look: Look) -> set[Place]:
        """The places where something has changed since the last call."""
        changed = {place for (_, place), _ in self._marks.items() ^ look.marks.items()}
        self._marks = look.marks
        return changed.union(self.grants.news(look.grants), self.deeds.news(look.deeds))


class _Numbers:
    """Numbers of rows, which may be committed out of order."""

    def __init__(self) -> None:
        self.after = 0
        self._seen: set[int] = set()

    def news(self, newest: Mapping[Place, Collection[int]]) -> Iterator[Place]:
        """The places of numbers that are new."""
        for place, numbers in newest.items():
            if not self._seen.issuperset(numbers):
                yield place
        self._seen = set().union(*newest.values())
        self.after = max(self.after, max(self._seen, default=0) - LATE)


def _concerns(scope: Scope, changed: Collection[Place]) -> bool:
    """Whether a place is within the scope. A change without a project concerns only a scope of everything."""
    return any(
        scope.is_whole
        if project_id is None
        else scope.has_project(project_id) and (env is None or scope.has_env(env))
        for project_id, env in changed
    )
