"""Old and new replicas side by side: an upgrade and a rollback under load, and what replicas exchange."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from typing_extensions import override

from farm_load import SMALL_POOL, USERS_OF_A_POOL
from next_version import THIS, Version, install_next_version
from runners import Runners
from support.postgres import fresh_database
from two_versions import HEADERS, PATIENCE, Replica, TwoVersions

OLD_SCHEMA = "The schema is older than this build: run `botfarm migrate`."
COMMANDS = ("serve", "serve", "worker")
PROD, KEY = {"project": "shop", "env": "prod", "ttl_seconds": 300}, {"Idempotency-Key": "kept"}
# What a client meets at a replica that goes: it is told so, or finds nobody there any more.
GOING = {"shutting-down", "ConnectError", "ReadError", "RemoteProtocolError"}
PACE = 0.03
"""Seconds that a test run pauses before each request: else runners would leave other processes no time."""
# Of the row itself: the API says the same whether a worker has closed it or not.
ENDED_BY = "SELECT ended_by FROM leases WHERE id = $1"
LOOKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE '%-health'
      AND query_start > $1 AND state = 'idle'"""


@dataclass
class WatchingRunners(Runners):
    """Runners that keep what each replica answered, too."""

    answers: list[tuple[str, str]] = field(default_factory=list)

    @override
    def _insist(
        self, ask: Callable[[str], httpx.Response], statuses: set[int], number: int
    ) -> dict[str, Any]:
        def watched(url: str) -> httpx.Response:
            time.sleep(PACE)
            try:
                answer = ask(url)
            except httpx.TransportError as error:
                self.answers.append((url, type(error).__name__))
                raise
            is_good = answer.status_code in statuses
            self.answers.append((url, "good" if is_good else answer.json()["type"].rpartition(":")[2]))
            return answer

        return super()._insist(watched, statuses, number)

    def until_all_are_served_by(self, *replicas: Replica) -> None:
        before, deadline = len(self.answers), time.monotonic() + PATIENCE
        while not all((each.url, "good") in self.answers[before:] for each in replicas):
            self.until_more_are_acquired()
            assert time.monotonic() < deadline, self.answers[before:]


@pytest.fixture(scope="module")
def upcoming(tmp_path_factory: pytest.TempPathFactory) -> Version:
    return install_next_version(tmp_path_factory.mktemp("next"))


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


@pytest.fixture
def farm(database_url: str) -> Iterator[TwoVersions]:
    with ExitStack() as stack:
        yield TwoVersions(stack, database_url)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_new_version_waits_for_its_schema_which_the_old_one_stays_ready_with(
    farm: TwoVersions, upcoming: Version
) -> None:
    farm.run(THIS, "migrate")
    old = [farm.start(THIS, command) for command in ("serve", "worker")]
    new = [farm.start(upcoming, command) for command in ("serve", "worker")]
    for replica in new:
        replica.process.wait_for(f'"reason": "{OLD_SCHEMA}", "event": "not ready"')
        assert replica.readiness() == (503, OLD_SCHEMA)
    for replica in old:
        replica.until_ready()
    farm.run(upcoming, "migrate")
    migrated = farm.ask("SELECT clock_timestamp()")
    for replica in new:
        replica.until_ready()
    until(lambda: farm.ask(LOOKED, migrated) == len(old) + len(new))
    assert [replica.readiness() for replica in (*old, *new)] == [(200, "ok")] * 4


def test_replica_by_replica_the_next_version_takes_over_and_then_this_one_again(
    farm: TwoVersions, database_url: str, upcoming: Version, record_property: Callable[[str, object], None]
) -> None:
    farm.run(THIS, "migrate")
    farm.run(THIS, "demo")
    replicas = [farm.start(THIS, command) for command in COMMANDS]
    for replica in replicas:
        replica.until_ready()
    kept = replicas[0].post("/leases", PROD, **KEY)
    runners = WatchingRunners([api.url for api in replicas[:2]], HEADERS)
    with runners.at_work():
        runners.until_all_are_served_by(*replicas[:2])
        with farm.long_transaction("SELECT FROM users"):
            migrating = farm.begin(upcoming, "migrate")
            migrating.wait_for("(?s)a table is in use.*a table is in use")
        assert migrating.wait(seconds=PATIENCE) == 0, migrating.output
        assert "The schema is up to date." in migrating.output
        take_over(upcoming, farm, runners, replicas)
        assert "is a newer version's" in farm.run(THIS, "migrate")
        take_over(THIS, farm, runners, replicas)
    runners.assert_nothing_is_lost(database_url)
    assert replicas[1].post("/leases", PROD, **KEY)["id"] == kept["id"]
    assert replicas[0].post(f"/leases/{kept['id']}/release", {})["ended_by"] == "released"
    for replica in replicas:
        replica.stop()
    staying = {api.url for api in replicas[:2]}
    assert {kind for url, kind in runners.answers if url in staying} == {"good"}
    kinds = Counter(kind for _, kind in runners.answers)
    assert kinds.keys() <= {"good", *GOING}
    record_property("answers", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))


def take_over(version: Version, farm: TwoVersions, runners: WatchingRunners, replicas: list[Replica]) -> None:
    """Two APIs, then the worker. A replica is told to stop while runners still come to it."""
    replacements = [farm.start(version, command) for command in COMMANDS]
    for place, replacement in enumerate(replacements):
        replacement.until_ready()
        replicas[place].stop()
        replicas[place] = replacement
        if COMMANDS[place] == "serve":
            runners.urls[place] = replacement.url
        runners.until_all_are_served_by(*replicas[:2])


@pytest.fixture
def side_by_side(farm: TwoVersions, upcoming: Version) -> list[Replica]:
    """An old API, a new API, an old worker and a new worker, on the new schema."""
    farm.run(upcoming, "migrate")
    farm.run(THIS, "demo")
    replicas = [
        farm.start(version, command) for command in ("serve", "worker") for version in (THIS, upcoming)
    ]
    for replica in replicas:
        replica.until_ready()
    return replicas


def test_a_release_at_one_version_wakes_who_waits_at_the_other_and_both_workers_reap(
    farm: TwoVersions, side_by_side: list[Replica]
) -> None:
    old, new, *workers = side_by_side
    for releasing, waiting in ((old, new), (new, old)):
        everything = releasing.post("/leases", {**SMALL_POOL, "count": USERS_OF_A_POOL})
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(waiting.post, "/leases", {**SMALL_POOL, "wait_seconds": 30})
            until(lambda: bool(releasing.get("/leases/waiting")["items"]))  # noqa: B023  called in this turn
            released = time.monotonic()
            releasing.post(f"/leases/{everything['id']}/release", {})
            lease = answer.result()
        assert time.monotonic() - released < 4.5  # after 5 s it would have looked by itself
        waiting.post(f"/leases/{lease['id']}/release", {})
    left_behind = old.post("/leases", {**SMALL_POOL, "ttl_seconds": 1})
    until(lambda: farm.ask(ENDED_BY, left_behind["id"]) == "expired")
    reaped = [last_reaping(worker) for worker in workers]
    until(lambda: all(last_reaping(worker) > max(reaped) for worker in workers))


def last_reaping(worker: Replica) -> float:
    page = worker.client.get(f"{worker.url}/metrics").text
    return float(re.findall(r"^botfarm_reaper_last_success_timestamp_seconds (\S+)$", page, re.MULTILINE)[0])
