"""Reports the users of failed tests: in each test's report, and those that are kept in the summary.

A plugin such as pytest-rerunfailures, pytest-retry or flaky runs a failed test again. Only the last try
counts: the reports of a test replace each other, and what an earlier try has kept is released before the next
one begins.
"""

from typing import TYPE_CHECKING

import pytest

from botfarm_client.pytest_plugin.scopes import leases_of

if TYPE_CHECKING:
    from botfarm_client.pytest_plugin.leases import Leases

# Properties of a test in JUnit XML: its leases and the logins of their users.
PROPERTIES = ("botfarm_lease", "botfarm_login")
# An attribute of a report. Reports travel from workers of pytest-xdist, so it consists of strings and lists.
_KEPT = "botfarm_kept"


class PostMortem:
    """The plugin object, registered once in each process of a run."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        """The current test of this process."""
        self.keepers: list[Leases] = []
        """The leases of this process of which some are, or were, kept."""
        self._kept: dict[str, list[list[str]]] = {}
        """What each worker has kept: names and lines."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Not in pytest_runtest_makereport: only after that hook does pytest-retry decide how a test
        # has ended.
        if self.item is not None and self.item.nodeid == report.nodeid:
            stories = [leases.story() for leases in leases_of(self.item)] if report.failed else []
            if story := "\n".join(filter(None, stories)):
                report.sections.append(("botfarm", story))
            if report.when == "teardown":
                setattr(report, _KEPT, [[each.name, line] for each in self.keepers for line in each.kept()])
        if (kept := getattr(report, _KEPT, None)) is not None:
            self._kept[getattr(report, "worker_id", "")] = kept

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        kept: dict[str, list[str]] = {}
        for name, line in (each for of_worker in self._kept.values() for each in of_worker):
            kept.setdefault(name, []).append(line)
        if not kept:
            return
        terminalreporter.section("botfarm: users kept for a post-mortem")
        for name, lines in kept.items():
            terminalreporter.line(name)
            for line in lines:
                terminalreporter.line(f"  {line}")


POST_MORTEM: "pytest.StashKey[PostMortem]" = pytest.StashKey()
