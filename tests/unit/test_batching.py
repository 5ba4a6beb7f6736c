import asyncio
from collections.abc import Sequence

import pytest

from botfarm.errors import DatabaseUnavailableError
from botfarm.services.shared.batching import Batcher, GroupedBatcher


class Database:
    """Serves a batch when it is told to; answers an item with its double."""

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


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_item_alone_goes_at_once() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    assert await batcher.submit(1) == 2
    assert batcher.is_idle
    assert await batcher.submit(2) == 4
    assert database.batches == [[1], [2]]


async def test_what_queues_behind_a_batch_is_the_next_one() -> None:
    database, sizes = Database(), []
    batcher = Batcher(database.run, max_batch=3, observe=sizes.append)
    database.open.clear()
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(6)]
    await turn()
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


async def test_a_database_that_is_away_is_asked_once_for_all() -> None:
    database = Database()
    database.error = DatabaseUnavailableError("away")
    batcher = Batcher(database.run, max_batch=10)
    answers = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [DatabaseUnavailableError] * 3
    assert database.batches == [[0, 1, 2]]
    database.error = None
    assert await batcher.submit(4) == 8


async def test_who_has_gone_before_its_batch_is_left_out() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    database.open.clear()
    first = asyncio.create_task(batcher.submit(1))
    await turn()
    gone, stays = asyncio.create_task(batcher.submit(2)), asyncio.create_task(batcher.submit(3))
    await turn()
    gone.cancel()
    database.open.set()
    assert (await first, await stays) == (2, 6)
    assert database.batches == [[1], [3]]


async def test_who_goes_while_its_batch_is_under_way_takes_nothing_from_the_others() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10)
    database.open.clear()
    gone, stays = asyncio.create_task(batcher.submit(1)), asyncio.create_task(batcher.submit(2))
    await turn()
    gone.cancel()
    database.open.set()
    assert await stays == 4


async def test_of_one_key_one_is_in_a_batch_and_their_order_stays() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10, key=lambda item: item % 2)
    await asyncio.gather(*(batcher.submit(n) for n in (1, 3, 2, 5)))
    assert database.batches == [[1, 2], [3], [5]]


async def test_groups_do_not_mix_and_idle_ones_are_let_go() -> None:
    database = Database()

    async def run(_: int, items: Sequence[int]) -> list[int]:
        return await database.run(items)

    batchers = GroupedBatcher(run, max_batch=10)
    database.open.clear()
    callers = [asyncio.create_task(batchers.submit(n % 2, n)) for n in range(4)]
    await turn()
    assert sorted(database.batches) == [[0, 2], [1, 3]]
    database.open.set()
    await asyncio.gather(*callers)
    assert batchers._batchers == {}


async def test_an_error_is_each_callers_own() -> None:
    batcher = Batcher(Database().run, max_batch=10)
    for _ in range(2):
        with pytest.raises(ValueError, match="13"):
            await batcher.submit(13)


async def test_a_batch_weighs_only_so_much_and_nobody_is_passed() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=10, weight=lambda item: item)
    await asyncio.gather(*(batcher.submit(n) for n in (4, 5, 2, 1, 20, 1)))
    assert database.batches == [[4, 5], [2, 1], [20], [1]]


async def test_switched_off_nobody_waits_for_anybody() -> None:
    database = Database()
    batcher = Batcher(database.run, max_batch=1)
    database.open.clear()
    callers = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
    await turn()
    assert database.batches == [[0], [1], [2]]
    database.open.set()
    assert await asyncio.gather(*callers) == [0, 2, 4]
