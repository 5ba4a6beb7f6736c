"""Tests of what is deployed, each with the real tool: `make test-ops`."""

import os
from collections.abc import Iterator

import pytest

from support.postgres import fresh_database, server_url


@pytest.fixture(scope="session", autouse=True)
def _surroundings() -> Iterator[None]:
    """No setting of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("BOTFARM_") and not name.startswith("BOTFARM_TEST_"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with server_url() as url:
        yield url


@pytest.fixture(scope="module")
def database_url(postgres_url: str) -> Iterator[str]:
    """An empty database for the tests of one file."""
    with fresh_database(postgres_url) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(report.longrepr[2].removeprefix("Skipped: "))
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")
