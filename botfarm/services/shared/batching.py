"""Batches items that arrive while a statement is in flight. An idle batcher adds no delay."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeVar

from botfarm.errors import UnavailableError

Group = TypeVar("Group", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")

Run = Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]]
"""Serves a batch. Returns one answer for each item, in their order."""


def _one(_: object) -> int:
    return 1


def _ignore(_: int) -> None: ...


class Batcher(Generic[Item, Answer]):
    """Runs one batch at a time. Leaves out an item whose caller has been cancelled meanwhile."""

    def __init__(
        self,
        run: Run[Item, Answer],
        *,
        max_batch: int,
        weight: Callable[[Item], int] = _one,
        key: Callable[[Item], Hashable] | None = None,
        observe: Callable[[int], None] = _ignore,
    ) -> None:
        """A batch weighs `max_batch` at most, unless it is a single item. 1 switches batching off.

        Two items with the same `key` are never in one batch. `observe` is called with the number of items of
        each batch.
        """
        self._run = run
        self._max_batch = max_batch
        self._weight = weight
        self._key = key
        self._observe = observe
        self._queue: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._serving: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return self._serving is None

    async def submit(self, item: Item) -> Answer:
        """Returns the answer for the item.

        Raises UnavailableError with the whole batch, else what `run` raises for it alone.
        """
        if self._max_batch == 1:
            self._observe(1)
            return (await self._run([item]))[0]
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._queue.append((item, future))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        try:
            while self._queue:
                await self._serve_batch(self._next_batch())
        finally:
            self._serving = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        left_over: list[tuple[Item, asyncio.Future[Answer]]] = []
        keys: set[Hashable] = set()
        room = self._max_batch
        while self._queue:
            entry = self._queue.popleft()
            if entry[1].done():
                continue
            key, weight = self._key(entry[0]) if self._key else None, self._weight(entry[0])
            if batch and weight > room:
                left_over.append(entry)
                break
            if key is not None and key in keys:
                left_over.append(entry)
                continue
            room -= weight
            keys.add(key)
            batch.append(entry)
        self._queue.extendleft(reversed(left_over))
        return batch

    async def _serve_batch(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        self._observe(len(batch))
        try:
            answers = await self._run([item for item, _ in batch])
        except UnavailableError as error:  # each item alone would meet it, too
            for _, future in batch:
                _fail(future, error)
        except Exception as error:  # noqa: BLE001  it is raised again, for the items that cause it
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for entry in batch:  # one item may be bad, and the others are served all the same
                await self._serve_batch([entry])
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


class GroupedBatcher(Generic[Group, Item, Answer]):
    """A batcher for each group of items that one statement can serve. Forgets idle ones."""

    def __init__(
        self,
        run: Callable[[Group, Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_batch: int,
        weight: Callable[[Item], int] = _one,
        observe: Callable[[int], None] = _ignore,
    ) -> None:
        self._run = run
        self._max_batch = max_batch
        self._weight = weight
        self._observe = observe
        self._batchers: dict[Group, Batcher[Item, Answer]] = {}

    async def submit(self, group: Group, item: Item) -> Answer:
        batcher = self._batchers.get(group)
        if batcher is None:
            batcher = self._batchers[group] = Batcher(
                partial(self._run, group),
                max_batch=self._max_batch,
                weight=self._weight,
                observe=self._observe,
            )
        try:
            return await batcher.submit(item)
        finally:
            if batcher.is_idle and self._batchers.get(group) is batcher:
                del self._batchers[group]


def _fail(future: "asyncio.Future[Answer]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
