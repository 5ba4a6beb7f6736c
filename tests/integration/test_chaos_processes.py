"""What breaks down in a search is recorded: a process that ends by itself or does not end, and a fault that fails."""

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from chaos import processes
from chaos.database import ChaosDatabase
from chaos.history import BREAKDOWN, Call, Fault
from chaos.nemesis import Nemesis
from chaos.plan import PlannedFault
from chaos.processes import ChaosFarm, FarmProcess
from chaos.stock import ENCRYPTION_KEYS
from chaos.tally import Tally
from support.postgres import two_roles
from support.proxy import proxy_to


class Records(list[Call | Fault]):
    def add(self, record: Call | Fault) -> None:
        self.append(record)

    @property
    def breakdowns(self) -> list[str]:
        return [
            f"{each.target} {each.note}"
            for each in self
            if isinstance(each, Fault) and each.kind == BREAKDOWN
        ]


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
async def process(database_url: str, tmp_path: Path, records: Records) -> AsyncIterator[FarmProcess]:
    async with proxy_to(database_url) as proxy:
        process = FarmProcess("worker", proxy, tmp_path / "worker.log", records)
        await process.start({**two_roles(proxy.url), "BOTFARM_ENCRYPTION_KEYS": ENCRYPTION_KEYS})
        yield process
        await process.kill()


async def test_an_end_by_itself_is_recorded_when_the_process_is_to_end(
    process: FarmProcess, records: Records
) -> None:
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGKILL)
    process._process.wait()
    process.pause()  # of a process that is not there
    process.resume()
    await process.kill()
    assert records.breakdowns == [f"worker ended by itself, with {-signal.SIGKILL}"]


async def test_a_process_that_does_not_end_is_killed_and_recorded(
    process: FarmProcess, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOPS_WITHIN", 0.2)
    process.pause()
    await process.terminate()
    assert records.breakdowns == ["worker did not end within 0 s after SIGTERM"]


async def test_a_planned_end_is_no_breakdown(process: FarmProcess, records: Records) -> None:
    await process.terminate()
    assert records == []


async def test_after_a_fault_that_fails_the_search_goes_on(process: FarmProcess, records: Records) -> None:
    farm = ChaosFarm(cast(ChaosDatabase, None), {"worker": process})
    farm.ring = "no keys"  # so no process starts
    faults = [PlannedFault(0, "kill", "worker"), PlannedFault(0, "delay", "worker")]
    await Nemesis(farm, records).run(faults, time.monotonic())
    [breakdown] = records.breakdowns
    assert "worker kill failed: AssertionError: it ended with" in breakdown
    assert [each.kind for each in records if isinstance(each, Fault)] == [BREAKDOWN, "kill", "delay"]


async def test_a_fault_that_the_database_is_not_there_for_is_not_counted_as_done(
    process: FarmProcess, records: Records
) -> None:
    database = cast(ChaosDatabase, SimpleNamespace(url="postgresql://nobody@127.0.0.1:1/nothing"))
    tally = Tally(records)
    nemesis = Nemesis(ChaosFarm(database, {"worker": process}), tally)
    await nemesis.run([PlannedFault(0, "end_sessions", "database")], time.monotonic())
    assert tally.faults == {"end_sessions, not done": 1}
    assert records.breakdowns == []
