"""Several API processes serve one queue in its order, also when one of them is stopped or killed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from support.farm import KEYS, TOKEN
from support.http import LEASE, assert_problem, create_project, create_user
from support.postgres import two_roles
from support.processes import Process, running_botfarm

WAITERS = 24


@pytest.fixture(params=["on", "off"], ids=["with NOTIFY", "by polling"])
def notify(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def replicas(database_url: str, notify: str) -> Iterator[list[Process]]:
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_NOTIFY": notify,
        "BOTFARM_PORT": "0",
    }
    with ExitStack() as stack:
        yield [stack.enter_context(running_botfarm("serve", environment=environment)) for _ in range(3)]


@asynccontextmanager
async def clients(replicas: list[Process]) -> AsyncIterator[list[httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(_client(replica)) for replica in replicas]


def _client(replica: Process) -> httpx.AsyncClient:
    url = replica.url()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, timeout=60)


class Queue:
    """One user, and the requests that wait for it."""

    def __init__(self, apis: list[httpx.AsyncClient]) -> None:
        self.apis = apis
        self.holder: dict[str, Any] = {}

    async def open(self) -> None:
        await create_user(self.apis[0], await create_project(self.apis[0], cooldown=0))
        self.holder = (await self.apis[0].post("/leases", json=LEASE)).json()

    async def join(
        self, replica: int, owner: str, *, key: str | None = None
    ) -> "asyncio.Task[httpx.Response]":
        """Posts a request that waits. Returns when it is in the queue."""
        body = {**LEASE, "owner": owner, "wait_seconds": 50}
        headers = {"Idempotency-Key": key} if key else {}
        task = asyncio.create_task(self.apis[replica].post("/leases", json=body, headers=headers))
        async with asyncio.timeout(60):
            while owner not in await self.owners():
                await asyncio.sleep(0.005)
        return task

    async def owners(self) -> list[str]:
        return [item["owner"] for item in (await self.apis[2].get("/leases/waiting")).json()["items"]]

    async def release(self, lease: dict[str, Any]) -> None:
        assert (await self.apis[2].post(f"/leases/{lease['id']}/release")).status_code == 200


async def test_the_queue_is_served_in_its_order(replicas: list[Process], notify: str) -> None:
    async with clients(replicas) as apis:
        queue = Queue(apis)
        await queue.open()
        served: list[str] = []
        waiters = WAITERS if notify == "on" else 6

        async def use(number: int, answer: "asyncio.Task[httpx.Response]") -> None:
            lease = (await answer).json()
            served.append(lease["owner"])
            await apis[(number + 1) % 3].post(f"/leases/{lease['id']}/release")

        waiting = [
            asyncio.create_task(use(number, await queue.join(number % 3, str(number))))
            for number in range(waiters)
        ]
        assert await queue.owners() == [str(number) for number in range(waiters)]
        refused = await apis[1].post("/leases", json=LEASE)
        assert assert_problem(refused, 409, "pool-exhausted")["waiting"] == waiters
        await queue.release(queue.holder)
        await asyncio.wait_for(asyncio.gather(*waiting), 40)
        assert served == [str(number) for number in range(waiters)]


@pytest.mark.parametrize("notify", ["on"], indirect=True)
async def test_a_killed_replica_holds_up_the_queue_for_a_few_seconds(replicas: list[Process]) -> None:
    async with clients(replicas) as apis:
        queue = Queue(apis)
        await queue.open()
        first = await queue.join(0, "first")
        second = await queue.join(1, "second")
        replicas[0].kill()
        with pytest.raises(httpx.TransportError):
            await first
        killed = time.monotonic()
        await queue.release(queue.holder)
        answer = await asyncio.wait_for(second, 20)
        assert answer.json()["owner"] == "second"
        assert 2 < time.monotonic() - killed < 12


@pytest.mark.parametrize("notify", ["on"], indirect=True)
async def test_a_stopping_replica_turns_all_requests_away_at_once_and_a_key_keeps_its_place(
    replicas: list[Process],
) -> None:
    async with clients(replicas) as apis:
        queue = Queue(apis)
        await queue.open()
        first = await queue.join(0, "first", key="k")
        second = await queue.join(1, "second")
        third = await queue.join(0, "third")
        replicas[0].terminate()
        began = time.monotonic()
        for waiting in (first, third):
            answer = await waiting
            assert_problem(answer, 503, "shutting-down")
            assert answer.headers["retry-after"] == "1"
        assert time.monotonic() - began < 3
        assert replicas[0].wait() == 0, replicas[0].output
        assert await queue.owners() == ["second"]
        again = await queue.join(1, "first", key="k")
        assert await queue.owners() == ["first", "second"]
        await queue.release(queue.holder)
        lease = (await again).json()
        assert lease["owner"] == "first"
        await queue.release(lease)
        assert (await second).status_code == 201
