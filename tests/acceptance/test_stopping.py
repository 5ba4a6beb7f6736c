"""How a process ends: in order on one signal, at once on the second, with one line when it cannot start."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest

from support.farm import KEYS, TOKEN
from support.http import LEASE, create_project, create_user
from support.postgres import temporary_folder, two_roles
from support.processes import run_botfarm, running_botfarm


@pytest.fixture
def environment(database_url: str) -> Iterator[dict[str, str]]:
    with temporary_folder() as home:
        yield {
            "HOME": str(home),
            "BOTFARM_DATA_DIR": str(home / "farm"),
            **two_roles(database_url),
            "BOTFARM_ENCRYPTION_KEYS": KEYS,
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
            "BOTFARM_WORKER_PORT": "0",
        }


READY = {"serve": '"serving"', "worker": '"working"', "dev": "botfarm is running"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", READY)
def test_one_signal_ends_a_process_in_order(
    environment: dict[str, str], command: str, number: signal.Signals
) -> None:
    with running_botfarm(command, environment=environment) as process:
        process.wait_for(READY[command])
        os.kill(process.pid, number)
        assert process.wait() == 0, process.output
        assert "Traceback" not in process.output


@pytest.mark.parametrize("command", READY)
def test_two_signals_end_a_process_without_a_traceback(environment: dict[str, str], command: str) -> None:
    with running_botfarm(command, environment=environment) as process:
        process.wait_for(READY[command])
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait() in {0, 130}, process.output
        assert "Traceback" not in process.output


def test_a_port_is_taken_from_the_start(environment: dict[str, str]) -> None:
    with running_botfarm("serve", environment=environment) as first:
        port = first.wait_for(r'"url": "http://127.0.0.1:(\d+)"')[1]
        second = run("serve", {**environment, "BOTFARM_PORT": port})
        assert second.returncode == 1
        assert second.stderr.startswith(f"botfarm: cannot listen on 127.0.0.1 port {port}")


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_taken_metrics_port_is_one_line(environment: dict[str, str], command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = run(command, {**environment, "BOTFARM_METRICS_PORT": port})
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith("set BOTFARM_METRICS_PORT")
    assert "Traceback" not in finished.stderr


WRONG = {
    "port": "postgresql://u:canary@127.0.0.1:port/d",
    "host": "postgresql://u:canary@[::1/d",
    "nobody there": "postgresql://u:canary@127.0.0.1:1/d",
}


@pytest.mark.parametrize("command", ["migrate", "demo"])
@pytest.mark.parametrize("wrong", [*WRONG, "password"])
def test_a_database_that_cannot_be_used_is_one_line(
    environment: dict[str, str], command: str, wrong: str
) -> None:
    url = WRONG.get(wrong) or environment["BOTFARM_DATABASE_URL"].replace(
        "://botfarm_app:", "://botfarm_app:canary"
    )
    finished = run(command, {**environment, "BOTFARM_DATABASE_URL": url, "BOTFARM_OWNER_URL": ""})
    assert finished.returncode == 1
    assert "BOTFARM_DATABASE_URL" in finished.stderr.splitlines()[-1]
    assert "Traceback" not in finished.stderr
    assert "canary" not in finished.stderr


def run(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return run_botfarm(command, environment=environment)


@asynccontextmanager
async def blocked_acquire(
    environment: dict[str, str], url: str
) -> AsyncIterator["asyncio.Task[httpx.Response]"]:
    """In the block it waits in the database."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    sql = await asyncpg.connect(environment["BOTFARM_DATABASE_URL"])
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers) as client:
        await create_user(client, await create_project(client))
        async with sql.transaction():
            await sql.execute("LOCK TABLE users")
            under_way = asyncio.create_task(client.post("/leases", json=LEASE))
            async with asyncio.timeout(10):
                while not await sql.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.005)
            yield under_way
        await under_way
    await sql.close()


async def test_a_request_under_way_is_finished_first(environment: dict[str, str]) -> None:
    with running_botfarm("serve", environment=environment) as api:
        async with blocked_acquire(environment, api.url()) as under_way:
            api.terminate()
        assert under_way.result().status_code == 201
        assert api.wait() == 0


async def test_a_second_signal_answers_a_request_under_way_that_the_process_shuts_down(
    environment: dict[str, str],
) -> None:
    with running_botfarm("serve", environment=environment) as api:
        async with blocked_acquire(environment, api.url()) as under_way:
            os.kill(api.pid, signal.SIGINT)
            os.kill(api.pid, signal.SIGTERM)
            answer = await under_way
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:botfarm:problem:shutting-down")
        api.wait()
        assert "Traceback" not in api.output


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_pool_that_is_greater_than_the_database_is_one_line(
    environment: dict[str, str], command: str
) -> None:
    asked = """
        SELECT current_setting('max_connections')::int
             - current_setting('superuser_reserved_connections')::int"""
    most = asyncio.run(_fetchval(environment["BOTFARM_DATABASE_URL"], asked))
    if most > 201:
        pytest.skip("no pool can be greater than what this server gives")
    finished = run(command, {**environment, "BOTFARM_DATABASE_POOL_SIZE": str(min(200, most - 1))})
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith(
        "botfarm: BOTFARM_DATABASE_POOL_SIZE: this process may want "
    )
    assert "Traceback" not in finished.stderr


async def _fetchval(url: str, query: str) -> int:
    sql = await asyncpg.connect(url)
    try:
        return int(await sql.fetchval(query))
    finally:
        await sql.close()
