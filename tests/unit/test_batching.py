"""Items that arrive while a batch is in flight are served together."""

import asyncio
from collections.abc import Sequence

import pytest

from botfarm.errors import DatabaseUnavailableError
from botfarm.services.shared.batching import Batcher, GroupedBatcher


class Database:
    """Serves a batch while it is open. The answer to an item is its double."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None

    async def run(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_single_item_is_served_at_once() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    assert await batcher.submit(1) == 2
    assert batcher.is_idle
    assert await batcher.submit(2) == 4
    assert database.batches == [[1], [2]]


async def test_items_that_queue_behind_a_batch_are_the_next_batch() -> None:
    database, sizes = Database(), []
    batcher = Batcher(database.run, max_batch=3, observe=sizes.append)
    database.open.clear()
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(6)]
    await settle()
    assert database.batches == [[0, 1, 2]]
    database.open.set()
    assert await asyncio.gather(*callers) == [0, 2, 4, 6, 8, 10]
    assert (database.batches, sizes) == ([[0, 1, 2], [3, 4, 5]], [3, 3])


async def test_one_bad_item_fails_alone() -> None:
    batcher = Batcher(Database().run, max_batch=10)
    answers = await asyncio.gather(*(batcher.submit(n) for n in (1, 13, 2)), return_exceptions=True)
    assert answers[0] == 2
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 4


async def test_an_unavailable_database_is_asked_once_for_the_whole_batch() -> None:
    database = Database()
    database.error = DatabaseUnavailableError("away")
    batcher = Batcher(database.run, max_batch=10)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailableError] * 3
    assert database.batches == [[0, 1, 2]]
    database.error = None
    assert await batcher.submit(4) == 8


async def test_an_item_whose_caller_was_cancelled_before_its_batch_is_left_out() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    database.open.clear()
    first = asyncio.create_task(batcher.submit(1))
    await settle()
    gone, stays = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
    await settle()
    gone.cancel()
    database.open.set()
    assert (await first, await stays) == (2, 6)
    assert database.batches == [[1], [3]]


async def test_a_caller_that_is_cancelled_during_its_batch_disturbs_no_other() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    database.open.clear()
    gone, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await settle()
    gone.cancel()
    database.open.set()
    assert await stays == 4


async def test_two_items_with_one_key_are_never_in_one_batch_and_keep_their_order() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10, key=lambda item: item % 2)
    await asyncio.gather(*(batcher.submit(n) for n in (1, 3, 2, 5)))
    assert database.batches == [[1, 2], [3], [5]]


async def test_groups_do_not_mix_and_idle_batchers_are_forgotten() -> None:
    database = Database()

    async def run(_: int, items: Sequence[int]) -> list[int]:
        return await database.run(items)

    batchers = GroupedBatcher(run, max_batch=10)
    database.open.clear()
    callers = [asyncio.create_task(batchers.submit(n % 2, n)) for n in range(4)]
    await settle()
    assert sorted(database.batches) == [[0, 2], [1, 3]]
    database.open.set()
    await asyncio.gather(*callers)
    assert batchers._batchers == {}


async def test_each_caller_gets_its_own_error() -> None:
    batcher = Batcher(Database().run, max_batch=10)
    for _ in range(2):
        with pytest.raises(ValueError, match="13"):
            await batcher.submit(13)


async def test_a_batch_weighs_max_batch_at_most_and_items_keep_their_order() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10, weight=lambda item: item)
    await asyncio.gather(*(batcher.submit(n) for n in (4, 5, 2, 1, 20, 1)))
    assert database.batches == [[4, 5], [2, 1], [20], [1]]


async def test_with_batching_switched_off_no_item_waits_for_another() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=1)
    database.open.clear()
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await settle()
    assert database.batches == [[0], [1], [2]]
    database.open.set()
    assert await asyncio.gather(*callers) == [0, 2, 4]
