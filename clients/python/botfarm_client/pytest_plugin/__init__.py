"""Users of a farm for pytest. Every run where botfarm-client is installed loads this: what costs time comes later."""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from botfarm_client.pytest_plugin.settings import MARKER, add_settings, check_settings

if TYPE_CHECKING:
    from botfarm_client import Botfarm, LeasedUser
    from botfarm_client.pytest_plugin.leases import LeaseFactory, Leases

_OF_A_TEST: "pytest.StashKey[Leases]" = pytest.StashKey()
_OF_A_WORKER: "pytest.StashKey[Leases]" = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_settings(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    check_settings(config)


@pytest.fixture(scope="session")
def botfarm_farm(pytestconfig: pytest.Config) -> "Iterator[Botfarm]":
    """The farm that users come from. With a fixture of this name a suite may choose another, such as a FakeFarm's."""
    from botfarm_client.pytest_plugin.leases import open_farm  # noqa: PLC0415

    with open_farm(pytestconfig) as farm:
        yield farm


@pytest.fixture
def botfarm_lease(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeaseFactory]":
    """A function that takes a lease, as the marker `botfarm` says and with what it is given. The test's end ends it."""
    from botfarm_client.pytest_plugin.leases import Leases  # noqa: PLC0415

    leases = request.node.stash[_OF_A_TEST] = Leases(botfarm_farm, request.config, request.node)
    yield leases.take
    leases.end()


@pytest.fixture
def botfarm_user(request: pytest.FixtureRequest, botfarm_lease: "LeaseFactory") -> "LeasedUser":  # noqa: ARG001
    """A user that only this test has, as the marker `botfarm` says."""
    leases: Leases = request.node.stash[_OF_A_TEST]
    return leases.take_one()


@pytest.fixture(scope="session")
def botfarm_worker_user(pytestconfig: pytest.Config, botfarm_farm: "Botfarm") -> "Iterator[LeasedUser]":
    """A user that only this process has: one for each worker of pytest-xdist. Markers say nothing of it."""
    from botfarm_client.pytest_plugin.leases import Leases  # noqa: PLC0415

    leases = pytestconfig.stash[_OF_A_WORKER] = Leases(botfarm_farm, pytestconfig)
    yield leases.take().user
    leases.end()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test whose users were lost, whatever it says itself."""
    for leases in _held(item):
        leases.report_to(item)
        leases.check()
    result = yield
    for leases in _held(item):
        leases.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for leases in _held(item):
            if call.when != "teardown" and call.excinfo is not None:
                leases.look_at(call.excinfo.value)
            if text := leases.story():
                report.sections.append(("botfarm", text))
    return report


def _held(item: pytest.Item) -> "list[Leases]":
    """What the test stands on, by its arguments, or by what it has asked for on its way."""
    found = [item.stash.get(_OF_A_TEST, None)]
    request = getattr(item, "_request", item)
    if "botfarm_worker_user" in getattr(request, "fixturenames", ()):
        found.append(item.config.stash.get(_OF_A_WORKER, None))
    return [leases for leases in found if leases is not None]
