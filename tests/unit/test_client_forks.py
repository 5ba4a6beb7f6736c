"""A forked process and the leases of its parent."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from botfarm_client import AsyncBotfarm, Botfarm
from botfarm_client.connection.api_calls import Call
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.connection import Connection
from botfarm_client.testing import FakeFarm, FakeUser
from support.stub_server import stub_server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


@pytest.fixture
def fake() -> Iterator[FakeFarm]:
    with FakeFarm([FakeUser("a@shop.test"), FakeUser("b@shop.test")]) as fake:
        yield fake


@pytest.fixture
def farm(fake: FakeFarm) -> Iterator[Botfarm]:
    with Botfarm(fake.url, fake.token, project=fake.project, env=fake.env) as farm:
        yield farm


def exit_code_of_child(work: Callable[[], object]) -> int:
    """The exit code of a forked process: 0 after the work, 1 if it failed, -14 if it hangs."""
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it must not come to the tests that follow
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_that_leaves_the_block_releases_nothing_of_its_parent(fake: FakeFarm) -> None:
    def use() -> None:
        farm = Botfarm(fake.url, fake.token, project=fake.project, env=fake.env)
        with farm, farm.lease() as lease:
            pid = os.getpid()

            def leave() -> None:
                assert os.getpid() != pid
                lease.release()
                lease._leave(None)
                farm.close()

            assert exit_code_of_child(leave) == 0
            assert fake.leases[0].is_live
            lease.check()

    use()
    assert fake.leases[0].ended_by == "released"


def test_a_child_takes_leases_of_its_own_whatever_its_parent_was_doing(fake: FakeFarm, farm: Botfarm) -> None:
    held = farm.acquire()
    renewer, locked, may_end = farm._renewer, threading.Event(), threading.Event()

    def hold_the_locks() -> None:
        with renewer._lock, held._clock._lock:
            locked.set()
            may_end.wait(30)

    holding = threading.Thread(target=hold_the_locks)
    holding.start()
    assert locked.wait(10)

    def use() -> None:
        with farm.lease(wait=0) as lease:
            assert lease.id != held.id
            lease.check()
        held.check()
        farm.close()

    code = exit_code_of_child(use)
    may_end.set()
    holding.join()
    assert code == 0
    assert [lease.ended_by for lease in fake.leases] == [None, "released"]


def test_an_inherited_lease_is_not_lost_for_not_being_renewed(fake: FakeFarm, farm: Botfarm) -> None:
    with farm.lease(ttl=60) as lease:

        def look_much_later() -> None:
            fake.advance(1000)
            lease.check()
            assert lease.user.password
            assert not lease.lost.is_set()

        assert exit_code_of_child(look_much_later) == 0


def test_a_child_speaks_over_connections_of_its_own() -> None:
    look = Call(method="GET", path="/look")
    with stub_server() as server, Connection(server.url, "token") as farm:
        farm.send(look)

        def look_and_close() -> None:
            farm.send(look)
            farm.close()

        assert exit_code_of_child(look_and_close) == 0
        farm.send(look)
        assert [seen.number for seen in server.requests] == [1, 1, 2], "the parent's is still good"


async def test_a_child_speaks_over_connections_of_its_own_with_tasks_too() -> None:
    look = Call(method="GET", path="/look")
    with stub_server() as server:
        farm = AsyncConnection(server.url, "token")
        await farm.send(look)

        async def look_and_close() -> None:
            await farm.send(look)
            await farm.close()

        assert exit_code_of_child(lambda: asyncio.run(look_and_close())) == 0
        await farm.send(look)
        assert [seen.number for seen in server.requests] == [1, 1, 2], "the parent's is still good"
        await farm.close()


def test_a_child_that_closes_a_farm_of_tasks_releases_nothing_of_its_parent(fake: FakeFarm) -> None:
    async def take() -> AsyncBotfarm:
        farm = fake.async_botfarm()
        await farm.acquire()
        return farm

    farm = asyncio.run(take())

    def close() -> None:
        asyncio.run(farm.close())
        assert fake.leases[0].is_live

    assert exit_code_of_child(close) == 0
