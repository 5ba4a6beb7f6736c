"""How long the cache keeps values, and when it loads them again."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from botfarm.services.shared import ttl_cache
from botfarm.services.shared.ttl_cache import TtlCache

Cache = TtlCache[str, tuple[str, float | None]]


class Table:
    """The rows that the loader reads (name and seconds left), a clock, and the keys of every query."""

    def __init__(self) -> None:
        self.now = 100.0
        self.rows: dict[str, float | None] = {}
        self.asked: list[set[str]] = []
        self.takes = 0.0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def load(self, keys: Collection[str]) -> Mapping[str, tuple[str, float | None]]:
        self.asked.append(set(keys))
        found = {key: (f"row {key}", self.rows[key]) for key in keys if key in self.rows}
        await self.may_answer.wait()
        self.now += self.takes
        return found


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def cache(table: Table) -> Cache:
    return TtlCache(table.load, lifetime=lambda row: row[1], clock=lambda: table.now)


async def test_a_known_key_costs_one_query_in_five_seconds(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    for _ in range(3):
        assert await cache.get("a") == ("row a", None)
    table.now += 4.9
    await cache.get("a")
    assert table.asked == [{"a"}]
    del table.rows["a"]
    table.now += 0.1
    assert await cache.get("a") is None


async def test_the_five_seconds_begin_before_the_query(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    table.takes = 3.0
    await cache.get("a")
    del table.rows["a"]
    table.now += 2.0
    assert await cache.get("a") is None


async def test_a_row_that_expires_sooner_is_cached_only_until_then(table: Table, cache: Cache) -> None:
    table.rows["a"] = 1.5
    await cache.get("a")
    del table.rows["a"]
    table.now += 1.4
    assert await cache.get("a") == ("row a", 1.5)
    table.now += 0.1
    assert await cache.get("a") is None


async def test_refreshed_entries_never_expire_in_use(table: Table, cache: Cache) -> None:
    table.rows |= {"a": None, "b": None}
    await cache.get("a")
    await cache.get("b")
    for _ in range(20):
        table.now += ttl_cache.REFRESH_INTERVAL
        await cache.refresh()
        await cache.get("a")
        await cache.get("b")
    assert table.asked[2:] == [{"a", "b"}] * 20


async def test_a_refresh_notices_a_row_that_was_deleted(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    await cache.get("a")
    del table.rows["a"]
    await cache.refresh()
    assert await cache.get("a") is None
    assert len(table.asked) == 2


async def test_an_entry_that_is_unused_for_a_minute_is_evicted(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    await cache.get("a")
    table.now += 60
    await cache.refresh()
    table.now += 1
    await cache.refresh()
    await cache.refresh()
    assert table.asked == [{"a"}, {"a"}]


async def test_a_refresh_that_fails_leaves_the_entries_until_they_expire(table: Table) -> None:
    table.rows["a"] = None
    broken = False

    async def load(keys: Collection[str]) -> Mapping[str, tuple[str, float | None]]:
        if broken:
            raise OSError
        return await table.load(keys)

    cache = TtlCache(load, clock=lambda: table.now)
    await cache.get("a")
    broken = True
    with pytest.raises(OSError):  # noqa: PT011  it has no message
        await cache.refresh()
    table.now += 4
    assert await cache.get("a") is not None
    table.now += 1
    with pytest.raises(OSError):  # noqa: PT011
        await cache.get("a")
    broken = False
    assert await cache.get("a") is not None


async def test_many_callers_of_a_key_share_a_query_and_a_cancelled_caller_disturbs_no_other(
    table: Table, cache: Cache
) -> None:
    table.rows["a"] = None
    table.may_answer.clear()
    callers = [asyncio.create_task(cache.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    table.may_answer.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [("row a", None)] * 4
    assert table.asked == [{"a"}]


async def test_an_absent_key_is_queried_once_a_second(table: Table, cache: Cache) -> None:
    for _ in range(3):
        assert await cache.get("a") is None
    assert table.asked == [{"a"}]
    table.rows["a"] = None
    table.now += 1
    assert await cache.get("a") is not None


async def test_many_unknown_keys_are_queried_together(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    table.may_answer.clear()
    crowd = [asyncio.create_task(cache.get(str(number))) for number in range(500)]
    known = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    table.may_answer.set()
    assert await known == ("row a", None)
    assert await asyncio.gather(*crowd) == [None] * 500
    assert len(table.asked) <= 2


async def test_a_caller_after_a_change_does_not_get_the_value_before_it(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    table.may_answer.clear()
    before = asyncio.create_task(cache.get("a"))
    async with asyncio.timeout(1):
        while not table.asked:
            await asyncio.sleep(0)
    del table.rows["a"]
    cache.forget("a")
    after = asyncio.create_task(cache.get("a"))
    await asyncio.sleep(0)
    table.may_answer.set()
    assert await before == ("row a", None)
    assert await after is None


async def test_unknown_keys_take_a_bounded_amount_of_memory(
    table: Table, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ttl_cache, "MAX_ABSENT", 3)
    for number in range(5):
        await cache.get(str(number))
    await cache.get("4")
    await cache.get("2")
    assert len(table.asked) == 5
    await cache.get("0")
    assert len(table.asked) == 6


async def test_a_forgotten_key_does_not_come_back_with_a_query_in_flight(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    await cache.get("a")
    table.may_answer.clear()
    refreshing = asyncio.create_task(cache.refresh())
    await asyncio.sleep(0)  # the rows are read
    del table.rows["a"]
    cache.forget("a")
    table.may_answer.set()
    await refreshing
    assert await cache.get("a") is None


async def test_an_older_answer_does_not_overwrite_a_newer_one(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    await cache.get("a")
    table.may_answer.clear()
    refreshing = asyncio.create_task(cache.refresh())
    await asyncio.sleep(0)  # the rows are read
    del table.rows["a"]
    table.now += 0.5
    late, table.may_answer = table.may_answer, asyncio.Event()
    table.may_answer.set()
    assert await cache.look_up("a") is None
    late.set()
    await refreshing
    assert await cache.get("a") is None


async def test_a_look_up_always_queries(table: Table, cache: Cache) -> None:
    table.rows["a"] = None
    await cache.get("a")
    del table.rows["a"]
    assert await cache.look_up("a") is None
    assert await cache.get("a") is None
    assert len(table.asked) == 2
