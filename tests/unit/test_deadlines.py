"""Deadlines ring in their order, on one timer, and what is over is let go."""

import asyncio

import pytest
import uvloop

from botfarm.services.waiting import deadlines
from botfarm.services.waiting.deadlines import Deadlines


class Wait:
    def __init__(self, name: int, rung: list[int]) -> None:
        self.name = name
        self.has_ended = False
        self._rung = rung

    def is_over(self) -> bool:
        return self.has_ended

    def end(self) -> None:
        self._rung.append(self.name)


async def until(rung: list[int], count: int) -> None:
    async with asyncio.timeout(5):
        while len(rung) < count:
            await asyncio.sleep(0.001)


async def test_they_ring_in_the_order_of_their_time() -> None:
    rung: list[int] = []
    waits = Deadlines[Wait]()
    for number in (3, 1, 2, 0):
        waits.add(number / 100, Wait(number, rung))
    await until(rung, 4)
    assert rung == [0, 1, 2, 3]


async def test_what_is_over_does_not_ring() -> None:
    rung: list[int] = []
    waits = Deadlines[Wait]()
    first, second = Wait(1, rung), Wait(2, rung)
    waits.add(0, first)
    waits.add(0, second)
    first.has_ended = True
    await until(rung, 1)
    assert rung == [2]


async def test_what_is_over_takes_no_memory_for_long() -> None:
    waits = Deadlines[Wait]()
    for number in range(10_000):
        wait = Wait(number, [])
        waits.add(300, wait)
        wait.has_ended = True
    assert len(waits) <= deadlines.SMALL + 1
    waits.close()


async def test_a_closed_one_rings_no_more() -> None:
    rung: list[int] = []
    waits = Deadlines[Wait]()
    waits.add(0, Wait(1, rung))
    waits.close()
    await asyncio.sleep(0.01)
    assert rung == []


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_deadlines_that_are_past_ring_at_once(loop_factory: "type[asyncio.AbstractEventLoop]") -> None:
    """As after a pause of the process: uvloop's handle for such a time does not know it."""
    rung: list[int] = []

    async def add_late() -> None:
        waits = Deadlines[Wait]()
        waits.add(-1, Wait(1, rung))
        waits.add(60, Wait(3, rung))
        waits.add(-2, Wait(0, rung))
        waits.add(-1, Wait(2, rung))
        await until(rung, 3)
        waits.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(add_late())
    assert rung == [0, 1, 2]
