"""A cache of database rows with a short TTL, and the loop that refreshes used entries before they expire."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger
from botfarm.services.shared.batching import Batcher

logger = get_logger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")

# Seconds, counted from before the query.
TTL = 5.0
ABSENT_TTL = 1.0
KEPT_UNUSED_FOR = 60.0
REFRESH_INTERVAL = 2.0
"""Seconds between two refreshes: short enough that entries in use are renewed before they expire."""
MAX_ABSENT = 10_000
MAX_KEYS = 1_000
"""Keys of one query. Anybody can make up keys, and they must not cost a query each."""


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    asked_at: float
    deadline: float
    used_at: float


class TtlCache(Generic[Key, Value]):
    """Values that are never older than five seconds.

    With `refresh` every two seconds, keys in use cost no round trip.
    """

    def __init__(
        self,
        load: Callable[[Collection[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        lifetime: Callable[[Value], float | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` leaves out keys that do not exist.

        `lifetime` is the seconds that a loaded value has left, if it expires.
        """
        self._load = load
        self._lifetime = lifetime
        self._clock = clock
        self._entries: dict[Key, _Entry[Value]] = {}
        self._absent: OrderedDict[Key, float] = OrderedDict()
        self._lookups: dict[Key, asyncio.Task[Value | None]] = {}
        self._queries = Batcher[Key, Value | None](self._ask_in_order, max_batch=MAX_KEYS)
        self._in_flight: list[set[Key]] = []

    async def get(self, key: Key) -> Value | None:
        """The value, or None when there is no such key.

        Raises what `load` raises when the value has to be loaded.
        """
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None:
            entry.used_at = now
            if now < entry.deadline:
                return entry.value
        elif now < self._absent.get(key, -math.inf) + ABSENT_TTL:
            return None
        return await self._shared_lookup(key)

    def peek(self, key: Key) -> Value | None:
        """As `get`, but never loads. None also when the entry has expired."""
        now, entry = self._clock(), self._entries.get(key)
        if entry is None or now >= entry.deadline:
            return None
        entry.used_at = now
        return entry.value

    async def look_up(self, key: Key) -> Value | None:
        """As `get`, but always loads, after this call.

        One query at a time, for all keys that were asked for while the last query was in flight.
        """
        return await self._queries.submit(key)

    async def refresh(self) -> None:
        """Loads all keys that were used in the last minute with one query, and evicts the others."""
        oldest = self._clock() - KEPT_UNUSED_FOR
        self._entries = {key: entry for key, entry in self._entries.items() if entry.used_at >= oldest}
        if self._entries:
            await self._ask(set(self._entries))

    def forget(self, key: Key) -> None:
        """Evicts a key whose value was just changed. The answer to a query in flight is not kept for it.

        Callers that already wait for that answer still get it.
        """
        self._entries.pop(key, None)
        self._absent.pop(key, None)
        self._lookups.pop(key, None)
        for wanted in self._in_flight:
            wanted.discard(key)

    def forget_values(self, matches: Callable[[Value], bool]) -> None:
        """As `forget`, for all keys with such a value."""
        for key in [key for key, entry in self._entries.items() if matches(entry.value)]:
            self.forget(key)

    async def _shared_lookup(self, key: Key) -> Value | None:
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.create_task(self.look_up(key))
            lookup.add_done_callback(lambda done: self._end_lookup(key, done))
        return await asyncio.shield(lookup)  # a caller that disconnects must not cancel it for the others

    def _end_lookup(self, key: Key, done: asyncio.Task[Value | None]) -> None:
        if self._lookups.get(key) is done:
            del self._lookups[key]
        if not done.cancelled():
            done.exception()  # marks it as retrieved, because all callers may have disconnected

    async def _ask_in_order(self, keys: Sequence[Key]) -> Sequence[Value | None]:
        found = await self._ask(keys)
        return [found.get(key) for key in keys]

    async def _ask(self, keys: Collection[Key]) -> Mapping[Key, Value]:
        wanted, asked_at = set(keys), self._clock()
        self._in_flight.append(wanted)
        try:
            found = await self._load(keys)
        finally:
            self._in_flight = [each for each in self._in_flight if each is not wanted]
        for key in wanted:
            self._keep(key, found.get(key), asked_at)
        return found

    def _keep(self, key: Key, value: Value | None, asked_at: float) -> None:
        known = self._entries.get(key)
        if asked_at < (known.asked_at if known else self._absent.get(key, asked_at)):
            return  # the answer to a later query is here already
        if value is None:
            self._entries.pop(key, None)
            self._absent[key] = asked_at
            self._absent.move_to_end(key)
            if len(self._absent) > MAX_ABSENT:
                self._absent.popitem(last=False)
            return
        self._absent.pop(key, None)
        lifetime = self._lifetime(value)
        ttl = TTL if lifetime is None else min(TTL, lifetime)
        used_at = known.used_at if known else self._clock()
        self._entries[key] = _Entry(value, asked_at, asked_at + ttl, used_at)


class CacheRefresher:
    def __init__(self, refreshes: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """`refreshes` are the `refresh` methods of the services that have a cache."""
        self._refreshes = refreshes

    async def watch(self) -> None:
        """Refreshes every `REFRESH_INTERVAL` seconds, until cancelled."""
        while True:
            started = time.monotonic()
            for refresh in self._refreshes:
                try:
                    await refresh()
                except DatabaseUnavailableError:
                    pass  # the engine has logged it, and cached values expire after seconds
                except Exception:  # without this loop every request would ask the database
                    logger.exception("refreshing a cache failed")
            await asyncio.sleep(max(0.0, REFRESH_INTERVAL - (time.monotonic() - started)))
