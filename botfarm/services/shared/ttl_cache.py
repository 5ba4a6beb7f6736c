"""What the database said a moment ago, so that a request need not ask it again who calls."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from botfarm.services.shared.batching import Coalescer

Key = TypeVar("Key")
Value = TypeVar("Value")

# Seconds, counted from before the query that said so.
TRUSTED_FOR = 5.0
ABSENT_FOR = 1.0
KEPT_UNUSED_FOR = 60.0
REFRESH_INTERVAL = 2.0
"""For who calls `refresh`: short enough that entries in use never grow too old on the way."""
MAX_ABSENT = 10_000
MAX_KEYS = 1_000
"""Of one question: anybody can make up keys, and each of them must not be a query of its own."""


@dataclass(slots=True)
class _Entry(Generic[Value]):
    value: Value
    asked_at: float
    deadline: float
    used_at: float


class FreshCache(Generic[Key, Value]):
    """Values that are never older than five seconds. Between two refreshes, keys in use cost no round trip."""

    def __init__(
        self,
        load: Callable[[Collection[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        lifetime: Callable[[Value], float | None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` leaves out what does not exist (any more); `lifetime` is the seconds that a value it gave has left."""
        self._load = load
        self._lifetime = lifetime
        self._clock = clock
        self._entries: dict[Key, _Entry[Value]] = {}
        self._absent: OrderedDict[Key, float] = OrderedDict()
        self._lookups: dict[Key, asyncio.Task[Value | None]] = {}
        self._questions = Coalescer[Key, Value | None](self._ask_in_order, max_batch=MAX_KEYS)
        self._under_way: list[set[Key]] = []

    async def get(self, key: Key) -> Value | None:
        """None when there is no such key. Raises what `load` raises when the value is not known well enough."""
        now = self._clock()
        entry = self._entries.get(key)
        if entry is not None:
            entry.used_at = now
            if now < entry.deadline:
                return entry.value
        elif now < self._absent.get(key, -math.inf) + ABSENT_FOR:
            return None
        return await self._shared_lookup(key)

    def peek(self, key: Key) -> Value | None:
        """As `get`, but the database is never asked: None also when what is known is too old."""
        now, entry = self._clock(), self._entries.get(key)
        if entry is None or now >= entry.deadline:
            return None
        entry.used_at = now
        return entry.value

    async def look_up(self, key: Key) -> Value | None:
        """As `get`, but the database is always asked, after this call.

        One question at a time, for all keys that came up while the last one was under way.
        """
        return await self._questions.submit(key)

    async def refresh(self) -> None:
        """Asks once for all keys that were used in the last minute, and lets go of the others."""
        oldest = self._clock() - KEPT_UNUSED_FOR
        self._entries = {key: entry for key, entry in self._entries.items() if entry.used_at >= oldest}
        if self._entries:
            await self._ask(set(self._entries))

    def forget(self, key: Key) -> None:
        """For who has just changed what it stands for. An answer that is under way is not kept any more.

        Who waits for that answer already still gets it.
        """
        self._entries.pop(key, None)
        self._absent.pop(key, None)
        self._lookups.pop(key, None)
        for wanted in self._under_way:
            wanted.discard(key)

    def forget_values(self, is_meant: Callable[[Value], bool]) -> None:
        """As `forget`, for all keys that stand for such a value."""
        for key in [key for key, entry in self._entries.items() if is_meant(entry.value)]:
            self.forget(key)

    async def _shared_lookup(self, key: Key) -> Value | None:
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.create_task(self.look_up(key))
            lookup.add_done_callback(lambda done: self._end_lookup(key, done))
        return await asyncio.shield(lookup)  # a caller that hangs up takes the answer from nobody else

    def _end_lookup(self, key: Key, done: asyncio.Task[Value | None]) -> None:
        if self._lookups.get(key) is done:
            del self._lookups[key]
        if not done.cancelled():
            done.exception()  # read: all of its callers may have hung up

    async def _ask_in_order(self, keys: Sequence[Key]) -> Sequence[Value | None]:
        found = await self._ask(keys)
        return [found.get(key) for key in keys]

    async def _ask(self, keys: Collection[Key]) -> Mapping[Key, Value]:
        wanted, asked_at = set(keys), self._clock()
        self._under_way.append(wanted)
        try:
            found = await self._load(keys)
        finally:
            self._under_way = [each for each in self._under_way if each is not wanted]
        for key in wanted:
            self._keep(key, found.get(key), asked_at)
        return found

    def _keep(self, key: Key, value: Value | None, asked_at: float) -> None:
        known = self._entries.get(key)
        if asked_at < (known.asked_at if known else self._absent.get(key, asked_at)):
            return  # a later question was answered earlier
        if value is None:
            self._entries.pop(key, None)
            self._absent[key] = asked_at
            self._absent.move_to_end(key)
            if len(self._absent) > MAX_ABSENT:
                self._absent.popitem(last=False)
            return
        self._absent.pop(key, None)
        lifetime = self._lifetime(value)
        trusted_for = TRUSTED_FOR if lifetime is None else min(TRUSTED_FOR, lifetime)
        used_at = known.used_at if known else self._clock()
        self._entries[key] = _Entry(value, asked_at, asked_at + trusted_for, used_at)
