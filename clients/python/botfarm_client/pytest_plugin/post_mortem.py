"""Reports the users of failed tests: in each test's report, and those that are kept in the summary.

A plugin such as pytest-rerunfailures, pytest-retry or flaky runs a failed test again. Only the last try
counts: the reports of a test replace each other, and what an earlier try has kept is released before the next
one begins.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from botfarm_client.pytest_plugin.leases import Leases

OF_A_TEST: "pytest.StashKey[Leases]" = pytest.StashKey()
OF_A_WORKER: "pytest.StashKey[Leases]" = pytest.StashKey()
# Properties of a test in JUnit XML: its leases and the logins of their users.
PROPERTIES = ("botfarm_lease", "botfarm_login")
# An attribute of a report. Reports travel from workers of pytest-xdist, so it consists of strings and lists.
_KEPT = "botfarm_kept"


def leases_of(item: pytest.Item) -> "list[Leases]":
    """The leases that a test uses, by its arguments and by the fixtures it requested while it ran."""
    found = [item.stash.get(OF_A_TEST, None)]
    request = getattr(item, "_request", item)
    if "botfarm_worker_user" in getattr(request, "fixturenames", ()):
        found.append(item.config.stash.get(OF_A_WORKER, None))
    return [leases for leases in found if leases is not None]


class PostMortem:
    """The plugin object, registered once in each process of a run."""

    def __init__(self) -> None:
        self.item: pytest.Item | None = None
        """The current test of this process."""
        self._kept: dict[str, list[str]] = {}
        """The kept leases of each test's last run."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # Not in pytest_runtest_makereport: only after that hook does pytest-retry decide how a test
        # has ended.
        if self.item is not None and self.item.nodeid == report.nodeid:
            leases = leases_of(self.item)
            if report.failed and (story := "\n".join(filter(None, (each.story() for each in leases)))):
                report.sections.append(("botfarm", story))
            if report.when == "teardown":
                setattr(report, _KEPT, [line for each in leases for line in each.kept()])
        if report.when == "teardown":
            self._kept[report.nodeid] = getattr(report, _KEPT, [])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        kept = {nodeid: lines for nodeid, lines in self._kept.items() if lines}
        if not kept:
            return
        terminalreporter.section("botfarm: users kept for a post-mortem")
        for nodeid, lines in kept.items():
            terminalreporter.line(nodeid)
            for line in lines:
                terminalreporter.line(f"  {line}")
