"""Leases held by tasks, with the fake farm. Rules that tasks share with threads are tested with threads."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable

import pytest

from botfarm_client import AsyncBotfarm
from botfarm_client.errors import LeaseLostError, PoolExhaustedError
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser


@pytest.fixture
def fake() -> FakeFarm:
    user = FakeUser("a@shop.test", "pw-a", secrets={"pin": 1}, totp="123456")
    return FakeFarm([user, FakeUser("b@shop.test", domain="canary")], policy=FakePolicy(lock_delay=1))


@pytest.fixture
async def farm(fake: FakeFarm) -> AsyncIterator[AsyncBotfarm]:
    async with fake.async_botfarm() as farm:
        yield farm


async def until_asked(fake: FakeFarm, name: str) -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    fake.on_answer = lambda this: this == name and loop.call_soon_threadsafe(asked.set)
    async with asyncio.timeout(60):
        await asked.wait()


async def test_a_lease_is_held_in_the_block_and_released_after_it(fake: FakeFarm, farm: AsyncBotfarm) -> None:
    async with farm.lease(ttl=60) as lease:
        assert (lease.user.login, lease.user.password) == ("a@shop.test", "pw-a")
        assert await lease.user.totp() == "123456"
        await lease.write_back(password="new", secrets={"pin": 2})
        assert (lease.user.password, lease.user.secrets) == ("new", {"pin": 2})
        await lease.renew(100)
        assert lease.expires_in > 90
        assert fake.leases[0].is_live
    assert (fake.leases[0].ended_by, fake.leases[0].outcome) == ("released", "ok")
    async with farm.lease() as lease:
        assert lease.user.password == "new"


async def test_an_exception_of_a_chosen_kind_leaves_the_users_broken(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    with pytest.raises(OSError, match="captcha"):
        async with farm.lease(broken_on=(OSError,)):
            raise OSError("captcha")
    assert (fake.leases[0].outcome, fake.leases[0].note) == ("broken", "OSError")


async def test_a_loss_cancels_what_runs_under_the_lease(fake: FakeFarm, farm: AsyncBotfarm) -> None:
    reached = asyncio.Event()

    async def use() -> None:
        async with farm.lease(ttl=60) as lease:
            reached.set()
            try:
                await asyncio.Event().wait()
            finally:
                assert lease.lost.is_set()

    using = asyncio.create_task(use())
    await reached.wait()
    fake.advance(100)
    with pytest.raises(LeaseLostError, match="stood still") as raised:
        await asyncio.wait_for(using, 10)
    assert isinstance(raised.value.__cause__, TimeoutError)
    assert using.cancelling() == 0


async def test_a_loss_that_is_found_at_the_last_moment_is_an_error_and_no_cancellation(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    async def use() -> None:
        async with farm.lease(ttl=60) as lease:
            fake.advance(100)
            with pytest.raises(LeaseLostError):
                lease.check()

    with pytest.raises(LeaseLostError):
        await use()
    await asyncio.sleep(0)
    this = asyncio.current_task()
    assert this is not None
    assert this.cancelling() == 0


async def test_an_error_of_the_block_is_not_hidden_by_the_loss(fake: FakeFarm, farm: AsyncBotfarm) -> None:
    async def use() -> None:
        async with farm.lease(ttl=60):
            fake.advance(100)
            raise AssertionError

    with pytest.raises(AssertionError) as raised:
        await use()
    assert any("is lost" in note for note in raised.value.__notes__)


async def test_a_block_that_is_cancelled_releases_and_stays_cancelled(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    reached = asyncio.Event()

    async def use() -> None:
        async with farm.lease():
            reached.set()
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    await reached.wait()
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert fake.leases[0].ended_by == "released"


async def test_a_release_goes_on_when_it_is_cancelled_again_and_again(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    reached = asyncio.Event()

    async def use() -> None:
        async with farm.lease():
            reached.set()
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    await reached.wait()
    while not using.done():
        using.cancel()
        await asyncio.sleep(0)
    assert using.cancelled()
    assert fake.leases[0].ended_by == "released"


async def test_a_timeout_around_a_lease_stays_a_timeout(fake: FakeFarm, farm: AsyncBotfarm) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1), farm.lease():
            await asyncio.Event().wait()
    assert fake.leases[0].ended_by == "released"


async def test_an_acquire_that_is_cancelled_while_it_waits_takes_nobody(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    held = await farm.acquire()
    waiting = asyncio.create_task(farm.acquire(wait=60))
    while fake.waiting == 0:
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await held.release()
    assert [lease.ended_by for lease in fake.leases] == ["released"]
    async with farm.lease(wait=0):
        pass


async def test_an_acquire_that_is_cancelled_after_the_hand_out_gives_back_what_it_took(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    acquiring = asyncio.create_task(farm.acquire())
    await until_asked(fake, "POST /leases")
    acquiring.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acquiring
    (taken,) = fake.leases
    assert taken.ended_by == "released"
    assert "interrupted" in (taken.note or "")


async def test_the_renewer_renews_a_lease_that_is_due_after_a_short_sleep(
    fake: FakeFarm, farm: AsyncBotfarm
) -> None:
    async with farm.lease(ttl=60) as lease:
        fake.advance(30)
        await until_asked(fake, f"POST /leases/{lease.id}/renew")
        async with asyncio.timeout(60):
            while lease.expires_in < 50:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "end", [lambda _: sys.exit(75), lambda _: pytest.fail("lost")], ids=["sys.exit", "pytest.fail"]
)
async def test_a_callback_that_fails_does_not_stop_the_renewer(
    fake: FakeFarm, farm: AsyncBotfarm, end: Callable[[LeaseLostError], object]
) -> None:
    lease, other = await farm.acquire(ttl=60), await farm.acquire(domain="canary", ttl=600)
    lease.on_lost(end)
    fake.advance(100)
    async with asyncio.timeout(60):
        await lease.lost.wait()
    fake.advance(150)
    await until_asked(fake, f"POST /leases/{other.id}/renew")


async def test_a_farm_that_is_closed_releases_what_is_still_held_and_leaves_no_task(fake: FakeFarm) -> None:
    async with fake.async_botfarm() as farm:
        await farm.acquire()
        await (await farm.acquire(domain="canary")).release("dirty")
    assert [lease.ended_by for lease in fake.leases] == ["released", "released"]
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_lease_that_is_let_go_is_not_released(fake: FakeFarm) -> None:
    async with fake.async_botfarm() as farm:
        (await farm.acquire()).let_go()
        await farm.acquire(domain="canary")
    assert [lease.ended_by for lease in fake.leases] == [None, "released"]


async def test_a_close_that_is_cancelled_releases_what_is_held(fake: FakeFarm) -> None:
    reached = asyncio.Event()

    async def use() -> None:
        async with fake.async_botfarm() as farm:
            await farm.acquire()
            await farm.acquire(domain="canary")
            fake.fail_next("shutting-down", times=2)
            reached.set()

    using = asyncio.create_task(use())
    await reached.wait()
    while not using.done():
        using.cancel()
        await asyncio.sleep(0.01)
    assert using.cancelled()
    assert [lease.ended_by for lease in fake.leases] == ["released", "released"]


async def test_a_release_that_is_cancelled_is_made_good_when_the_farm_is_closed(fake: FakeFarm) -> None:
    async with fake.async_botfarm() as farm:
        lease = await farm.acquire()
        fake.fail_next("shutting-down")
        releasing = asyncio.create_task(lease.release())
        await asyncio.sleep(0)
        releasing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await releasing
        assert fake.leases[0].is_live
    assert fake.leases[0].ended_by == "released"


async def test_a_lost_answer_takes_no_second_user(fake: FakeFarm, farm: AsyncBotfarm) -> None:
    fake.fail_next("lost")
    async with farm.lease() as lease:
        assert [each.id for each in fake.leases] == [lease.id]


async def test_the_error_of_an_exhausted_pool_names_the_pool(farm: AsyncBotfarm) -> None:
    async with farm.lease(ttl=40):
        with pytest.raises(PoolExhaustedError) as raised:
            await farm.acquire(wait=0)
    assert str(raised.value) == "pool shop/stage exhausted: 0 waiting, next free in 41 s"
