"""Test runs that go on whatever happens to the farm, and remember what they were told."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

import asyncpg
import httpx

from farm_load import POOL
from farm_processes import FarmProcesses

RUNNERS = 8
PATIENCE = 60.0


@dataclass
class Runners:
    """Threads that acquire, renew and release a user, and retry while the farm is away.

    They keep every lease that the farm acknowledged.
    """

    urls: list[str]
    headers: dict[str, str]
    acquired: dict[str, float] = field(default_factory=dict)
    """By the id of the lease: when the answer came, on the clock of `time.monotonic`."""
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
        """Waits for so many more leases. Returns the seconds until the first of them."""
        started, before = time.monotonic(), len(self.acquired)
        first = 0.0
        while len(self.acquired) < before + more:
            assert not self.failures, self.failures
            assert time.monotonic() < started + PATIENCE, "nobody gets a user"
            if not first and len(self.acquired) > before:
                first = time.monotonic() - started
            time.sleep(0.01)
        return first

    def until_somebody_is_refused(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.refused:
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, "nobody is refused"
            time.sleep(0.01)

    def longest_pause(self) -> float:
        """Seconds in which nobody got a user."""
        return round(max(after - before for before, after in pairwise(sorted(self.acquired.values()))), 2)

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
        self.acquired[lease["id"]] = time.monotonic()
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
        assert self.acquired.keys() - leases.keys() == set()
        assert [lease for lease in self.released if leases[lease] != "released"] == []


def runners_of(farm: FarmProcesses, *others: FarmProcesses) -> Runners:
    with farm.client() as client:
        return Runners([each.url for each in (farm, *others)], dict(client.headers))


async def _leases(database_url: str) -> dict[str, str | None]:
    sql = await asyncpg.connect(database_url)
    try:
        return {str(row["id"]): row["ended_by"] for row in await sql.fetch("SELECT id, ended_by FROM leases")}
    finally:
        await sql.close()
