"""The SDK keeps leases while networks, servers and runners fail, and reports a loss in time."""

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime

import pytest

from botfarm_client import Lease
from botfarm_client.errors import LeaseLostError
from botfarm_client.leasing import lease_clock
from support.live_farm import LiveFarm, LiveProject, farm_at, free_port, serving, until
from support.postgres import fresh_database
from support.processes import Process, running
from support.proxy import Proxy, proxy_to

# A separate process: it acquires a user, says so, and works until the lease is lost.
RUNNER = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent of the tests may ignore it
from botfarm_client import Botfarm
from botfarm_client.errors import LeaseLostError
print("began", flush=True)
try:
    with Botfarm() as farm, farm.lease(ttl=int(sys.argv[1]), wait=60) as lease:
        print("holds", lease.id, lease.user.id, flush=True)
        while not lease.lost.wait(60):
            pass
        lease.check()
except LeaseLostError as error:
    print(error, flush=True)
"""


@pytest.fixture(scope="module")
def database(postgres_url: str, template: str) -> Iterator[str]:
    with fresh_database(postgres_url, template=template) as url:
        yield url


@pytest.fixture(scope="module")
def url(database: str) -> Iterator[str]:
    with serving(database) as (process, url):
        yield url
        assert not re.findall(r'.*"level": "error".*', process.output), "the farm found a bug in itself"


@pytest.fixture
def live(url: str) -> Iterator[LiveFarm]:
    with farm_at(url) as live:
        yield live


@contextmanager
def runner(project: LiveProject, *, ttl: int, **settings: str) -> Iterator[Process]:
    command = (sys.executable, "-c", RUNNER, str(ttl))
    with running(*command, environment={**project.environment(), **settings}) as process:
        yield process


async def test_a_network_that_is_away_for_less_than_the_ttl_loses_no_lease(live: LiveFarm) -> None:
    project = live.project_for_sdk(1)
    async with proxy_to(project.url) as proxy:
        with project.farm(proxy.url) as farm:
            lease = await asyncio.to_thread(farm.acquire, ttl=6)
            began, renewals = time.monotonic(), lease.expires_in
            await proxy.cut()
            while lease.expires_in > renewals - 3:  # a renewal was due and failed
                await asyncio.sleep(0.02)
            await proxy.mend()
            while time.monotonic() < began + 6.5:
                await asyncio.sleep(0.02)
            lease.check()
            (there,) = project.leases(state="active")
            assert there["id"] == lease.id
            await asyncio.to_thread(lease.release)
        assert project.leases()[-1]["ended_by"] == "released"


@pytest.mark.parametrize("how", ["cut", "silent"])
async def test_a_network_that_stays_away_is_reported_as_a_loss_before_anybody_else_has_the_user(
    live: LiveFarm, how: str
) -> None:
    project = live.project_for_sdk(1, lock_delay=0)
    lost_at: list[float] = []
    async with proxy_to(project.url) as proxy:
        with project.farm(proxy.url) as farm, project.farm() as other:

            def use() -> None:
                with farm.lease(ttl=3) as lease:
                    lease.on_lost(lambda _: lost_at.append(time.monotonic()))
                    held.append(lease)
                    assert lease.lost.wait(20)

            held: list[Lease] = []
            using = asyncio.create_task(asyncio.to_thread(use))
            while not held:
                await asyncio.sleep(0.01)
            await _break(proxy, how)
            got = await asyncio.to_thread(other.acquire, wait=20)
            got_at = time.monotonic()
            assert got.user.id == held[0].user.id
            assert lost_at[0] < got_at
            await proxy.cut()
            with pytest.raises(LeaseLostError, match="it was not renewed for"):
                await using
            with pytest.raises(LeaseLostError):
                _ = held[0].user.password
            await asyncio.to_thread(got.release)


async def test_a_task_is_cancelled_before_anybody_else_has_its_user(live: LiveFarm) -> None:
    project = live.project_for_sdk(1, lock_delay=0)
    ended_at: list[float] = []
    async with (
        proxy_to(project.url) as proxy,
        project.async_farm(proxy.url) as farm,
        project.async_farm() as other,
    ):
        holds = asyncio.Event()

        async def use() -> None:
            async with farm.lease(ttl=3):
                holds.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    ended_at.append(time.monotonic())

        using = asyncio.create_task(use())
        await holds.wait()
        await proxy.cut()
        async with other.lease(wait=20):
            assert ended_at[0] < time.monotonic()
        with pytest.raises(LeaseLostError):
            await using


async def _break(proxy: Proxy, how: str) -> None:
    if how == "cut":
        await proxy.cut()
    else:
        proxy.silence()


async def test_an_answer_that_the_network_loses_takes_no_second_user(live: LiveFarm) -> None:
    project = live.project_for_sdk(2)
    async with proxy_to(project.url) as proxy:
        with project.farm(proxy.url) as farm:
            proxy.lose_answers()
            acquiring = asyncio.create_task(asyncio.to_thread(farm.acquire, wait=0))
            while not project.leases():
                await asyncio.sleep(0.01)
            await proxy.cut()
            await proxy.mend()
            lease = await acquiring
            assert [there["id"] for there in project.leases()] == [lease.id]
            await asyncio.to_thread(lease.release)


def test_a_farm_that_is_killed_and_started_again_loses_no_lease(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        lease_clock, "SHARE", 0.1
    )  # the first renewal comes early, which leaves time for a slow start
    port = free_port()
    with serving(database_url, port=port) as (process, url), farm_at(url) as live:
        project = live.project_for_sdk(1)
        with project.farm() as farm:
            lease = farm.acquire(ttl=15)
            process.kill()
            until(lambda: lease.expires_in < 13)  # a renewal has been tried
            with serving(database_url, port=port):
                until(lambda: lease.expires_in > 14)
                lease.release()
                assert [there["ended_by"] for there in project.leases()] == ["released"]
                with farm.lease(wait=0) as later:
                    assert later.fence > lease.fence


def test_a_runner_that_is_killed_under_load_gives_its_user_back_after_ttl_and_lock_delay(
    live: LiveFarm,
) -> None:
    project = live.project_for_sdk(4, lock_delay=1)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with farm.lease(wait=20):
                over.wait(0.02)

    with project.farm() as farm, ThreadPoolExecutor(6) as others, runner(project, ttl=2) as victim:
        _, lease_id, user_id = victim.wait_for(r"holds (\S+) (\S+)")[0].split()
        working = [others.submit(work) for _ in range(6)]
        until(lambda: len(project.leases()) > 20)
        victim.kill()
        killed_at = time.monotonic()
        next_leases: list[dict[str, object]] = []
        while not next_leases:
            next_leases = [each for each in project.leases(user_id=user_id) if each["id"] != lease_id]
            assert time.monotonic() < killed_at + 20
        over.set()
        for each in working:
            each.result(20)
    was = live.get(f"/leases/{lease_id}")
    rested = datetime.fromisoformat(str(next_leases[0]["acquired_at"])) - datetime.fromisoformat(
        str(was["expires_at"])
    )
    assert rested.total_seconds() >= 1, "nobody has it before its lock-delay is over"


def test_a_runner_that_stood_still_for_too_long_knows_it_when_it_goes_on(live: LiveFarm) -> None:
    project = live.project_for_sdk(1, lock_delay=1)
    with project.farm() as farm, runner(project, ttl=2) as sleeper:
        sleeper.wait_for("holds")
        os.kill(sleeper.pid, signal.SIGSTOP)
        with farm.lease(wait=20):
            os.kill(sleeper.pid, signal.SIGCONT)
            sleeper.wait_for("is lost: it was not renewed for")
        assert sleeper.wait() == 0


@pytest.mark.parametrize("is_told", [True, False], ids=["the farm is told", "a balancer keeps it to itself"])
async def test_a_runner_that_is_interrupted_while_it_waits_leaves_no_user_behind(
    live: LiveFarm, is_told: bool
) -> None:
    project = live.project_for_sdk(1)
    async with proxy_to(project.url) as balancer:
        if not is_told:
            balancer.hide_ends()
        await asyncio.to_thread(_interrupt_a_wait, project, balancer.url)


def _interrupt_a_wait(project: LiveProject, url: str) -> None:
    with project.farm() as farm:
        held = farm.acquire()
        with runner(project, ttl=60, BOTFARM_URL=url) as waiting:
            until(lambda: project.waiting() == 1)
            waiting.interrupt()
            waiting.wait()
        assert "KeyboardInterrupt" in waiting.output
        held.release()
        with farm.lease(wait=0) as lease:
            assert [each["id"] for each in project.leases(state="active")] == [lease.id]


def test_two_hundred_leases_at_once_are_all_kept_by_one_farm(
    live: LiveFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_clock, "SHARE", 0.1)
    project = live.project_for_sdk(200)
    seen: set[str] = set()
    with project.farm() as farm, ThreadPoolExecutor(200) as threads:
        leases = list(threads.map(lambda _: farm.acquire(ttl=60), range(200)))
        assert len({lease.user.id for lease in leases}) == 200
        before = {each["id"]: each["expires_at"] for each in project.leases(limit="200")}

        def renewed() -> set[str]:
            seen.update(
                each["id"] for each in project.leases(limit="200") if each["expires_at"] > before[each["id"]]
            )
            return seen

        until(lambda: len(renewed()) == 200, seconds=40)
        assert not [lease for lease in leases if lease.lost.is_set()]
        assert threading.active_count() < 100 + 200
        list(threads.map(Lease.release, leases))
    assert {each["ended_by"] for each in project.leases(limit="200")} == {"released"}
