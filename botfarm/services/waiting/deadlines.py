"""Many deadlines, one timer."""

import asyncio
import heapq
from itertools import count
from typing import Generic, Protocol, TypeVar


class Ending(Protocol):
    def is_over(self) -> bool:
        """It ended otherwise: its deadline is nothing to it any more."""

    def end(self) -> None:
        """Its deadline has come."""


Item = TypeVar("Item", bound=Ending)
# Items that are over stay in the heap until they are half of it.
SMALL = 64


class Deadlines(Generic[Item]):
    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Item]] = []
        self._numbers = count()  # items themselves are not compared
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0  # uvloop gives a Handle without `when` for a time that is past
        self._limit = SMALL

    def add(self, seconds: float, item: Item) -> None:
        """From now."""
        when = asyncio.get_running_loop().time() + seconds
        heapq.heappush(self._heap, (when, next(self._numbers), item))
        if len(self._heap) > self._limit:
            self._forget_what_is_over()
        self._set_timer()

    def close(self) -> None:
        self._heap.clear()
        self._set_timer()

    def __len__(self) -> int:
        return len(self._heap)

    def _forget_what_is_over(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].is_over()]
        heapq.heapify(self._heap)
        self._limit = max(SMALL, 2 * len(self._heap))

    def _set_timer(self) -> None:
        if self._timer:
            if self._heap and self._timer_at == self._heap[0][0]:
                return
            self._timer.cancel()
        self._timer = None
        if self._heap:
            self._timer_at = self._heap[0][0]
            self._timer = asyncio.get_running_loop().call_at(self._timer_at, self._ring)

    def _ring(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        while self._heap and self._heap[0][0] <= now:
            _, _, item = heapq.heappop(self._heap)
            if not item.is_over():
                item.end()
        self._set_timer()
