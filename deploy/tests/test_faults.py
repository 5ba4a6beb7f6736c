"""Under load: PostgreSQL crashes, fails over, a replica is told to stop. Nothing acknowledged is lost, nobody shares a user."""

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from botfarm.embedded_postgres import EmbeddedPostgres
from farm_load import POOL
from farm_processes import FarmProcesses, farm_processes
from standby import standby_of
from support.postgres import temporary_folder

RUNNERS = 8
PATIENCE = 60.0


@dataclass
class Runners:
    """They take a user, let it go, and ask again under the same key when the farm is not there. Whatever they were told is kept."""

    urls: list[str]
    headers: dict[str, str]
    acquired: set[str] = field(default_factory=set)
    released: set[str] = field(default_factory=set)
    failures: list[BaseException] = field(default_factory=list)
    refused: int = 0
    _held: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(RUNNERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        assert self.failures == []

    def until_more_are_acquired(self, more: int = 20) -> float:
        """How many seconds it took to the first of them."""
        started, before = time.monotonic(), len(self.acquired)
        first = 0.0
        while len(self.acquired) < before + more:
            assert not self.failures, self.failures
            assert time.monotonic() < started + PATIENCE, "nobody gets a user"
            if not first and len(self.acquired) > before:
                first = time.monotonic() - started
            time.sleep(0.01)
        return first

    def _work(self, number: int) -> None:
        try:
            with httpx.Client(headers=self.headers, timeout=60) as client:
                while not self._over.is_set():
                    self._run_a_test(client, number)
        except BaseException as failure:  # noqa: BLE001  raised in the thread of the test
            self.failures.append(failure)

    def _run_a_test(self, client: httpx.Client, number: int) -> None:
        key, body = {"Idempotency-Key": uuid4().hex}, {**POOL, "wait_seconds": 20, "ttl_seconds": 300}
        lease = self._insist(
            lambda url: client.post(f"{url}/api/v1/leases", json=body, headers=key), {200, 201}, number
        )
        (user,) = lease["users"]
        assert user["id"] not in self._held, "two hold one user"
        self._held.add(user["id"])
        self.acquired.add(lease["id"])
        self._insist(lambda url: client.post(f"{url}/api/v1/leases/{lease['id']}/renew"), {200}, number)
        self._held.remove(user["id"])
        self._insist(lambda url: client.post(f"{url}/api/v1/leases/{lease['id']}/release"), {200}, number)
        self.released.add(lease["id"])

    def _insist(
        self, ask: Callable[[str], httpx.Response], statuses: set[int], number: int
    ) -> dict[str, Any]:
        """As clients do: a farm that is not there is asked again, each time the next replica."""
        deadline = time.monotonic() + PATIENCE
        for turn in range(number, 10_000):
            assert time.monotonic() < deadline, "the farm does not come back"
            try:
                answer = ask(self.urls[turn % len(self.urls)])
            except httpx.TransportError:
                self.refused += 1
                time.sleep(0.05)
                continue
            if answer.status_code in statuses:
                return dict(answer.json())
            assert answer.status_code in {409, 503}, answer.text  # waited in vain, or not there
            self.refused += 1
            time.sleep(0.05)
        raise AssertionError("too many turns")

    def assert_nothing_is_lost(self, database_url: str) -> None:
        leases = asyncio.run(_leases(database_url))
        assert self.acquired - set(leases) == set()
        assert [lease for lease in self.released if leases[lease] != "released"] == []


async def _leases(database_url: str) -> dict[str, str | None]:
    sql = await asyncpg.connect(database_url)
    try:
        return {str(row["id"]): row["ended_by"] for row in await sql.fetch("SELECT id, ended_by FROM leases")}
    finally:
        await sql.close()


@pytest.fixture
def durable() -> Iterator[EmbeddedPostgres]:
    """A server that keeps what it has acknowledged, unlike that of other tests."""
    with temporary_folder() as folder:
        server = EmbeddedPostgres(folder / "farm")
        try:
            yield server
        finally:
            server.stop()


def runners_of(farm: FarmProcesses, *others: FarmProcesses) -> Runners:
    with farm.client() as client:
        return Runners([each.url for each in (farm, *others)], dict(client.headers))


def test_a_crash_of_the_database_loses_nothing_and_the_service_comes_back(
    durable: EmbeddedPostgres, record_property: Callable[[str, object], None]
) -> None:
    url = durable.start()
    with farm_processes(url) as farm:
        runners = runners_of(farm)
        with runners.at_work():
            for crash in (1, 2):
                runners.until_more_are_acquired()
                restarted = durable._pg_ctl(
                    "restart", "-m", "immediate", "-w", "-l", durable._data_dir / "postgres.log"
                )
                assert restarted.returncode == 0, restarted.stdout
                seconds = runners.until_more_are_acquired()
                record_property(f"back after crash {crash}, seconds", round(seconds, 2))
        assert runners.refused > 0
        runners.assert_nothing_is_lost(url)


def test_after_a_failover_the_service_goes_on_by_itself(
    durable: EmbeddedPostgres, record_property: Callable[[str, object], None]
) -> None:
    """Both hosts are in the URL; the standby is synchronous, and is promoted when the primary is gone for good."""
    url = durable.start()
    with temporary_folder() as folder:
        shutil.chown(folder, durable._account or os.geteuid())
        with standby_of(durable, url, folder) as standby, farm_processes(standby.url_of_both) as farm:
            runners = runners_of(farm)
            with runners.at_work():
                runners.until_more_are_acquired()
                durable._pg_ctl("stop", "-m", "immediate")
                standby.pg_ctl("promote", "-w")
                record_property(
                    "back after the promotion of a standby, seconds",
                    round(runners.until_more_are_acquired(), 2),
                )
            assert runners.refused > 0
            runners.assert_nothing_is_lost(standby.url)


def test_a_replica_that_is_told_to_stop_finishes_and_loses_nothing(database_url: str) -> None:
    with farm_processes(database_url) as first, farm_processes(database_url) as second:
        runners = runners_of(first, second)
        with runners.at_work():
            runners.until_more_are_acquired()
            started = time.monotonic()
            first.api.terminate()
            assert first.api.wait(seconds=30) == 0, first.api.output
            seconds = time.monotonic() - started
            runners.until_more_are_acquired()
        runners.assert_nothing_is_lost(database_url)
        assert "Traceback" not in first.api.output
        assert seconds < 20
