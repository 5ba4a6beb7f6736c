"""The whole farm through a real PgBouncer in transaction mode, with fewer sessions than connections."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from farm_load import acquire, play_a_round
from farm_processes import FarmProcesses, farm_processes
from stages import skip
from support.farm import KEYS, TOKEN
from support.pgbouncer import find_pgbouncer, pgbouncer
from support.postgres import served
from support.processes import BOTFARM, Process, running

SESSIONS = 3
RUNNERS = 16
OUR_SETTINGS = (
    "statement_timeout, idle_in_transaction_session_timeout, default_transaction_isolation, jit, "
    "random_page_cost, enable_bitmapscan, search_path"
)


@contextmanager
def installed_pgbouncer(database_url: str, *, ignoring: str = "") -> Iterator[str]:
    program = find_pgbouncer()
    if program is None:
        skip("pgbouncer", "it is not installed, and only root can install it")
    with pgbouncer(program, database_url, sessions=SESSIONS, ignoring=ignoring) as (_, url):
        yield url


@pytest.fixture(scope="module")
def pooled_url(database_url: str) -> Iterator[str]:
    with installed_pgbouncer(served(database_url)) as url:
        yield url


@pytest.fixture(scope="module", params=["woken", "deaf"])
def farm(request: pytest.FixtureRequest, database_url: str, pooled_url: str) -> Iterator[FarmProcesses]:
    listening = (
        {"BOTFARM_LISTEN_URL": served(database_url)}
        if request.param == "woken"
        else {"BOTFARM_NOTIFY": "off"}
    )
    past_it = {"BOTFARM_OWNER_URL": database_url, **listening}
    with farm_processes(pooled_url, BOTFARM_DB_POOLER="transaction", **past_it) as farm:
        yield farm


def test_a_test_run_of_every_kind(farm: FarmProcesses) -> None:
    with farm.client() as client:
        play_a_round(client)


def test_many_at_once_never_share_a_user(farm: FarmProcesses) -> None:
    held: set[str] = set()

    def run_tests(_: int) -> None:
        with farm.client() as client:
            for _ in range(5):
                lease = acquire(client, wait_seconds=50)
                (user,) = lease["users"]
                assert user["id"] not in held
                held.add(user["id"])
                assert client.post(f"/leases/{lease['id']}/renew").status_code == 200
                held.remove(user["id"])
                assert client.post(f"/leases/{lease['id']}/release").status_code == 200

    with ThreadPoolExecutor(RUNNERS) as runners:
        assert len(list(runners.map(run_tests, range(RUNNERS)))) == RUNNERS


@pytest.mark.usefixtures("farm")
def test_nothing_of_ours_stays_on_a_session(pooled_url: str) -> None:
    async def look() -> list[tuple[int, int, str]]:
        connections = [await asyncpg.connect(pooled_url, statement_cache_size=0) for _ in range(SESSIONS)]
        try:
            for connection in connections:
                await connection.execute("BEGIN")  # so that each has a session of its own
            query = """
                SELECT pg_backend_pid(), (SELECT count(*) FROM pg_prepared_statements),
                       current_setting('statement_timeout')"""
            return [tuple(await connection.fetchrow(query)) for connection in connections]
        finally:
            for connection in connections:
                await connection.close()

    seen = asyncio.run(look())
    assert len({session for session, _, _ in seen}) == SESSIONS
    assert {(statements, timeout) for _, statements, timeout in seen} == {(0, "0")}


def test_a_statement_is_still_limited(farm: FarmProcesses, database_url: str) -> None:
    """A table that is locked costs a caller seconds, not the patience of the one who locked it."""

    async def ask_while_locked() -> Any:
        connection = await asyncpg.connect(database_url)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE users")
                return await asyncio.to_thread(ask)
        finally:
            await connection.close()

    def ask() -> httpx.Response:
        with farm.client() as client:
            return client.post("/leases", json={"project": "shop", "env": "prod"})

    answer = asyncio.run(ask_while_locked())
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:botfarm:problem:database-unavailable"


@pytest.mark.parametrize("ignoring", ["", OUR_SETTINGS], ids=["refuses our settings", "ignores our settings"])
def test_a_farm_that_was_not_told_of_it_is_never_ready_and_says_what_to_set(
    database_url: str, ignoring: str
) -> None:
    with installed_pgbouncer(database_url, ignoring=ignoring) as url, _serving(url) as process:
        api = process.url()
        process.wait_for("not ready.*BOTFARM_DB_POOLER=transaction|BOTFARM_DB_POOLER=transaction.*not ready")
        readiness = httpx.get(f"{api}/readyz")
        assert readiness.status_code == 503
        assert "BOTFARM_DB_POOLER=transaction" in readiness.text
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with ThreadPoolExecutor(RUNNERS) as runners:
            requests = [
                runners.submit(
                    httpx.post,
                    f"{api}/api/v1/leases",
                    headers=headers,
                    json={"project": "shop", "env": "prod"},
                    timeout=30,
                )
                for _ in range(3 * RUNNERS)
            ]
            assert {request.result().status_code for request in requests} == {503}


@contextmanager
def _serving(database_url: str) -> Iterator[Process]:
    environment = {
        "BOTFARM_DATABASE_URL": database_url,
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
    }
    with running(BOTFARM, "serve", environment=environment) as process:
        yield process
