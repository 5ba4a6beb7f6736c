"""Many runners, few users, several API processes: never two runners on one user."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import asyncpg
import httpx
import pytest

from botfarm.crypto.key_ring import generate_key
from botfarm_client.connection.async_transport import AsyncFarmTransport
from botfarm_client.connection.route import Route
from support.farm import TOKEN
from support.postgres import two_roles
from support.processes import Process, running_botfarm

RUNNERS, USERS, PROCESSES, ROUNDS = 200, 50, 3, 2


@dataclass(frozen=True)
class Held:
    """A user in a runner's hands: from the moment its answer came until just before it let go."""

    user_id: str
    since: float
    until: float
    fence: int


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": generate_key("test"),
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_WORKER_PORT": "0",
        "BOTFARM_REAP_INTERVAL": "0.2",
    }


@pytest.fixture
def urls(environment: dict[str, str]) -> Iterator[list[str]]:
    with ExitStack() as stack:
        apis = [
            stack.enter_context(running_botfarm("serve", environment=environment)) for _ in range(PROCESSES)
        ]
        stack.enter_context(running_botfarm("worker", environment=environment))
        yield [url_of(api) for api in apis]


def url_of(api: Process) -> str:
    return api.url()


async def fill(api: httpx.AsyncClient) -> str:
    project_id = (await api.post("/projects", json={"name": "shop"})).json()["id"]
    for number in range(USERS):
        body = {"login": f"u{number}@shop.test", "password": "x", "project_id": project_id, "env": "stage"}
        assert (await api.post("/users", json={**body, "domain": "regular"})).status_code == 201
    return str(project_id)


async def test_no_user_is_ever_in_two_leases(urls: list[str], database_url: str) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201  shown when the test fails
    choice = random.Random(seed)
    held: list[Held] = []

    async def runner(number: int) -> None:
        url = urls[number % PROCESSES]
        for _ in range(ROUNDS):
            count = 2 if number % 10 == 0 else 1
            wanted = {
                "project": "shop",
                "env": "stage",
                "count": count,
                "wait_seconds": 50,
                "owner": f"runner {number}",
            }
            answer = await client.post(f"{url}/leases", json=wanted)
            assert answer.status_code == 201, answer.text
            since = time.monotonic()
            await asyncio.sleep(choice.uniform(0, 0.05))  # the test that the runner runs
            lease, until = answer.json(), time.monotonic()
            held.extend(Held(user["id"], since, until, lease["fence"]) for user in lease["users"])
            released = await client.post(f"{choice.choice(urls)}/leases/{lease['id']}/release")
            assert released.status_code == 200, released.text

    # The SDK's connections, because httpcore's pool at times closes an expired one just given to a request.
    connections = {url: AsyncFarmTransport(Route.to(url)) for url in urls}
    urls = [f"{url}/api/v1" for url in urls]
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {TOKEN}"}, mounts=connections, timeout=90
    ) as client:
        client.base_url = httpx.URL(urls[0])
        await fill(client)
        await asyncio.gather(*(runner(number) for number in range(RUNNERS)))
    assert len(held) == ROUNDS * (RUNNERS + RUNNERS // 10)
    _assert_disjoint(held)
    await _assert_history_disjoint(database_url, leases=ROUNDS * RUNNERS)


def _assert_disjoint(held: list[Held]) -> None:
    by_user: dict[str, list[Held]] = defaultdict(list)
    for one in held:
        by_user[one.user_id].append(one)
    assert len(by_user) == USERS, "all users are used"
    for turns in by_user.values():
        turns.sort(key=lambda turn: turn.since)
        for before, after in pairwise(turns):
            assert before.until <= after.since, (before, after)
            assert before.fence < after.fence


async def _assert_history_disjoint(database_url: str, *, leases: int) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM leases WHERE ended_by = 'released'") == leases
        overlaps = await connection.fetchval(
            """WITH turns AS (SELECT unnest(user_ids) AS user_id, id, acquired_at, ended_at FROM leases)
               SELECT count(*) FROM turns AS a JOIN turns AS b USING (user_id)
               WHERE a.id <> b.id AND a.acquired_at < b.ended_at AND b.acquired_at < a.ended_at"""
        )
        assert overlaps == 0
        assert await connection.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == 0
    finally:
        await connection.close()


def test_a_killed_worker_keeps_no_user_from_coming_back(environment: dict[str, str]) -> None:
    """TTL and lock-delay are enough: the API alone hands the dead runner's user out again."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        running_botfarm("serve", environment=environment) as api,
        running_botfarm("worker", environment=environment) as worker,
        httpx.Client(base_url=f"{url_of(api)}/api/v1", headers=headers, timeout=60) as client,
    ):
        project = client.post("/projects", json={"name": "shop", "lock_delay": 1}).json()
        user = {"login": "u@shop.test", "password": "x", "project_id": project["id"], "env": "stage"}
        client.post("/users", json={**user, "domain": "regular"}).raise_for_status()
        wanted = {"project": "shop", "env": "stage", "ttl_seconds": 1}
        lost = client.post("/leases", json=wanted).json()
        worker.wait_for('"event": "working"')
        worker.kill()
        found = client.post("/leases", json={**wanted, "wait_seconds": 20, "ttl_seconds": 60})
        assert found.status_code == 201, found.text
        assert found.json()["users"][0]["id"] == lost["users"][0]["id"]
        assert client.get(f"/leases/{lost['id']}").json()["ended_by"] == "expired"
        with running_botfarm("worker", environment=environment) as next_worker:
            next_worker.wait_for("reaped expired leases")
        assert client.get(f"/leases/{found.json()['id']}").json()["ended_at"] is None


def test_a_process_that_is_told_to_stop_ends_its_waits_and_exits_with_0(environment: dict[str, str]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with running_botfarm("serve", environment=environment) as api:
        url = f"{url_of(api)}/api/v1"

        async def stop_while_waiting() -> httpx.Response:
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                await fill(client)
                all_of_them = {"project": "shop", "env": "stage", "count": USERS}
                assert (await client.post("/leases", json=all_of_them)).status_code == 201
                waiting = asyncio.create_task(
                    client.post("/leases", json={**all_of_them, "wait_seconds": 50})
                )
                await asyncio.sleep(0)
                while 'result="exhausted"' not in (metrics := (await client.get(f"{url[:-7]}/metrics")).text):
                    await client.post("/leases", json=all_of_them)
                assert metrics
                api.terminate()
                return await waiting

        answer = asyncio.run(stop_while_waiting())
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:botfarm:problem:shutting-down"
        assert answer.headers["retry-after"]
        assert api.wait() == 0
