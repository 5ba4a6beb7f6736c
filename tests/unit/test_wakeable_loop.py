"""A look for each wake, and none too many."""

import asyncio

import pytest
import uvloop

from botfarm.services.waiting.wakeable_loop import Lookout


class Watch:
    """Looks that end when a test says so."""

    def __init__(self, pause: float | None = None) -> None:
        self.pause = pause
        self.begun = 0
        self.ended = 0
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.lookout = Lookout(self.look)

    async def look(self) -> float | None:
        self.begun += 1
        await self.may_end.wait()
        self.ended += 1
        return self.pause

    async def until(self, ended: int) -> None:
        async with asyncio.timeout(5):
            while self.ended < ended:
                await asyncio.sleep(0)


@pytest.fixture
async def watch() -> Watch:
    return Watch()


async def test_a_wake_is_a_look(watch: Watch) -> None:
    watch.lookout.wake()
    await watch.until(1)
    watch.lookout.wake()
    await watch.until(2)
    assert watch.begun == 2


async def test_a_wake_during_a_look_is_another_look(watch: Watch) -> None:
    watch.may_end.clear()
    watch.lookout.wake()
    await asyncio.sleep(0)
    assert watch.begun == 1
    for _ in range(3):
        watch.lookout.wake()
    watch.may_end.set()
    await watch.until(2)
    await asyncio.sleep(0)
    assert watch.begun == 2


async def test_it_looks_again_after_a_while(watch: Watch) -> None:
    watch.pause = 0.001
    watch.lookout.wake()
    await watch.until(3)
    await watch.lookout.close()


async def test_the_earlier_of_two_moments_counts(watch: Watch) -> None:
    watch.pause = 60
    watch.lookout.wake()
    await watch.until(1)
    watch.lookout.wake_within(0.001)
    watch.lookout.wake_within(60)
    await watch.until(2)
    await watch.lookout.close()


async def test_a_closed_one_finishes_its_look_and_begins_no_other(watch: Watch) -> None:
    watch.pause = 0
    watch.may_end.clear()
    watch.lookout.wake()
    await asyncio.sleep(0)
    closing = asyncio.create_task(watch.lookout.close())
    await asyncio.sleep(0)
    watch.lookout.wake()
    assert not closing.done()
    watch.may_end.set()
    await closing
    watch.lookout.wake()
    watch.lookout.wake_within(0)
    await asyncio.sleep(0.01)
    assert watch.begun == watch.ended == 1


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_time_that_is_past_is_a_look_now(loop_factory: "type[asyncio.AbstractEventLoop]") -> None:
    """As after a pause of the process: uvloop's handle for such a time does not know it."""

    async def look_late() -> None:
        watch = Watch()
        watch.lookout.wake_within(-1)
        watch.lookout.wake_within(60)
        watch.lookout.wake_within(-2)
        await watch.until(1)
        await watch.lookout.close()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(look_late())
