"""Users of a farm for pytest.

Every run where botfarm-client is installed loads this: what costs time comes later.
"""

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import pytest

from botfarm_client.pytest_plugin.post_mortem import OF_A_TEST, OF_A_WORKER, PROPERTIES, PostMortem, leases_of
from botfarm_client.pytest_plugin.settings import MARKER, add_settings, check_settings

if TYPE_CHECKING:
    from botfarm_client import Botfarm, LeasedUser
    from botfarm_client.pytest_plugin.leases import LeaseFactory, Leases

_TRIES = pytest.StashKey[int]()
_POST_MORTEM = pytest.StashKey[PostMortem]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_settings(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    check_settings(config)
    config.stash[_POST_MORTEM] = PostMortem()
    config.pluginmanager.register(config.stash[_POST_MORTEM])


@pytest.fixture(scope="session")
def botfarm_farm(pytestconfig: pytest.Config) -> "Botfarm":
    """The farm that users come from.

    Its leases have the run's project, env, domain, wait and TTL unless they name others.

    A suite that has a fixture of this name brings its own farm, such as a FakeFarm's.
    """
    from botfarm_client.pytest_plugin.leases import farm_of_run  # noqa: PLC0415

    return farm_of_run(pytestconfig)


@pytest.fixture
def botfarm_lease(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeaseFactory]":
    """A function that acquires a lease, on the terms of its arguments and of the marker `botfarm`.

    The test's end ends it.
    """
    from botfarm_client.pytest_plugin.leases import Leases  # noqa: PLC0415

    leases = request.node.stash[OF_A_TEST] = Leases(botfarm_farm, request.config, request.node)
    yield leases.take
    leases.end()


@pytest.fixture
def botfarm_user(request: pytest.FixtureRequest, botfarm_lease: "LeaseFactory") -> "LeasedUser":  # noqa: ARG001
    """A user that only this test holds, on the terms of the marker `botfarm`."""
    leases: Leases = request.node.stash[OF_A_TEST]
    return leases.take_one()


@pytest.fixture(scope="session")
def botfarm_worker_user(pytestconfig: pytest.Config, botfarm_farm: "Botfarm") -> "Iterator[LeasedUser]":
    """A user that only this process holds, each worker of pytest-xdist its own. Markers do not apply."""
    from botfarm_client.pytest_plugin.leases import Leases  # noqa: PLC0415

    leases = pytestconfig.stash[OF_A_WORKER] = Leases(botfarm_farm, pytestconfig)
    yield leases.take().user
    leases.end()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begins a run of the test. A plugin that runs failed tests again calls this for each run."""
    item.stash[_TRIES] = item.stash.get(_TRIES, 0) + 1
    item.user_properties[:] = [each for each in item.user_properties if each[0] not in PROPERTIES]
    earlier = item.stash.get(OF_A_TEST, None)
    if earlier is not None:
        del item.stash[OF_A_TEST]
        earlier.release_kept()
    item.config.stash[_POST_MORTEM].item = item


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test whose users were lost, even if it passed."""
    for leases in leases_of(item):
        leases.report_to(item)
        leases.check()
    try:
        result = yield
        for leases in leases_of(item):
            leases.check()
    except (Exception, pytest.fail.Exception) as failure:
        # pytest-retry makes no report of a later try. A test that may fail (xfail) is not tried again.
        if item.stash[_TRIES] > 1:
            _look_at(item, failure)
        raise
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when != "teardown" and call.excinfo is not None:
        _look_at(item, call.excinfo.value)
    return report


def _look_at(item: pytest.Item, failure: BaseException) -> None:
    for leases in leases_of(item):
        leases.look_at(failure)
