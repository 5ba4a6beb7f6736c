"""Under load, PostgreSQL crashes or fails over, or a replica stops: nothing is lost, no user is shared."""

import os
import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from farm_processes import farm_processes
from runners import runners_of
from standby import standby_of
from support.postgres import temporary_folder


@pytest.fixture
def durable() -> Iterator[EmbeddedPostgres]:
    """A server that keeps what it has acknowledged, unlike that of other tests."""
    with temporary_folder() as folder:
        server = EmbeddedPostgres(folder / "farm")
        try:
            yield server
        finally:
            server.stop()


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
    """The URL names both hosts. The synchronous standby is promoted after the primary is gone for good."""
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
