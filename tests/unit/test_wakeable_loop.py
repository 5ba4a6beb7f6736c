"""A wakeable loop runs one step for each wake, and at most one at a time."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from botfarm.services.waiting.pool_queue import WakeableLoop


class Steps:
    """Steps that end when a test lets them."""

    def __init__(self, pause: float | None = None) -> None:
        self.pause = pause
        self.begun = 0
        self.ended = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.loop = WakeableLoop(self.step)

    async def step(self) -> float | None:
        self.begun += 1
        await self.may_end.wait()
        self.ended += 1
        return self.pause

    async def until(self, ended: int) -> None:
        async with asyncio.timeout(60):
            while self.ended < ended:
                await asyncio.sleep(0)


@pytest.fixture
async def steps() -> Steps:
    return Steps()


async def test_a_wake_leads_to_a_step(steps: Steps) -> None:
    steps.loop.wake()
    await steps.until(1)
    steps.loop.wake()
    await steps.until(2)
    assert steps.begun == 2


async def test_a_wake_during_a_step_leads_to_another_step(steps: Steps) -> None:
    steps.may_end.clear()
    steps.loop.wake()
    await asyncio.sleep(0)
    assert steps.begun == 1
    for _ in range(3):
        steps.loop.wake()
    steps.may_end.set()
    await steps.until(2)
    await asyncio.sleep(0)
    assert steps.begun == 2


async def test_the_next_step_runs_when_it_is_due(steps: Steps) -> None:
    steps.pause = 0.001
    steps.loop.wake()
    await steps.until(3)
    await steps.loop.close()


async def test_the_earlier_of_two_times_counts(steps: Steps) -> None:
    steps.pause = 60
    steps.loop.wake()
    await steps.until(1)
    steps.loop.wake_within(0.001)
    steps.loop.wake_within(60)
    await steps.until(2)
    await steps.loop.close()


async def test_close_waits_for_the_step_in_flight_and_starts_no_other(steps: Steps) -> None:
    steps.pause = 0
    steps.may_end.clear()
    steps.loop.wake()
    await asyncio.sleep(0)
    closing = asyncio.create_task(steps.loop.close())
    await asyncio.sleep(0)
    steps.loop.wake()
    assert not closing.done()
    steps.may_end.set()
    await closing
    steps.loop.wake()
    steps.loop.wake_within(0)
    await asyncio.sleep(0.01)
    assert steps.begun == steps.ended == 1


async def test_close_ends_a_loop_whose_next_step_is_far(steps: Steps) -> None:
    steps.pause = 600
    steps.loop.wake()
    await steps.until(1)
    await asyncio.wait_for(steps.loop.close(), 60)
    assert steps.begun == 1


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_step_whose_time_is_past_runs_at_once(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """As after a pause of the process: uvloop and asyncio differ in timers whose time is past."""

    async def wake_late() -> None:
        steps = Steps()
        steps.loop.wake_within(-1)
        steps.loop.wake_within(60)
        steps.loop.wake_within(-2)
        await steps.until(1)
        await steps.loop.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(wake_late())
