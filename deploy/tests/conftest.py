"""Tests of what is deployed, each with the real tool: `make test-ops`."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _surroundings() -> Iterator[None]:
    """No setting of the person who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("BOTFARM_") and not name.startswith("BOTFARM_TEST_"):
                patch.delenv(name)
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(report.longrepr[2].removeprefix("Skipped: "))
