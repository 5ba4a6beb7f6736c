"""Users of a farm for pytest.

Every run where botfarm-client is installed loads this: what costs time comes later.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from botfarm_client.pytest_plugin.post_mortem import POST_MORTEM, PROPERTIES, PostMortem
from botfarm_client.pytest_plugin.scopes import (
    CLASS,
    FUNCTION,
    MODULE,
    WORKER,
    Scope,
    begin_run,
    leases_of,
)
from botfarm_client.pytest_plugin.settings import MARKER, add_settings, check_settings

if TYPE_CHECKING:
    from botfarm_client import Botfarm, LeasedUser
    from botfarm_client.pytest_plugin.leases import LeaseFactory, Leases

_TRIES = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    add_settings(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    check_settings(config)
    config.stash[POST_MORTEM] = PostMortem()
    config.pluginmanager.register(config.stash[POST_MORTEM])


@pytest.fixture(scope="session")
def botfarm_farm(pytestconfig: pytest.Config) -> "Botfarm":
    """The farm that users come from.

    Its leases have the run's project, env, domain, wait and TTL unless they name others.

    A suite that has a fixture of this name brings its own farm, such as a FakeFarm's.
    """
    from botfarm_client.pytest_plugin.farm import farm_of_run  # noqa: PLC0415

    return farm_of_run(pytestconfig)


@pytest.fixture
def botfarm_lease(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeaseFactory]":
    """A function that acquires a lease, on the terms of its arguments and of the marker `botfarm`.

    The test's end ends it.
    """
    with _leases(request, botfarm_farm, FUNCTION) as leases:
        yield leases.take


@pytest.fixture
def botfarm_user(request: pytest.FixtureRequest, botfarm_lease: "LeaseFactory") -> "LeasedUser":  # noqa: ARG001
    """A user that only this test holds, on the terms of the marker `botfarm`."""
    return _one_user(request, FUNCTION)


@pytest.fixture(scope="class")
def botfarm_class_lease(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeaseFactory]":
    """As `botfarm_lease`, for all tests of a class. Markers of the class and its module apply."""
    with _leases(request, botfarm_farm, CLASS) as leases:
        yield leases.take


@pytest.fixture(scope="class")
def botfarm_class_user(request: pytest.FixtureRequest, botfarm_class_lease: "LeaseFactory") -> "LeasedUser":  # noqa: ARG001
    """A user that only the tests of this class hold. Markers of the class and its module apply."""
    return _one_user(request, CLASS)


@pytest.fixture(scope="module")
def botfarm_module_lease(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeaseFactory]":
    """As `botfarm_lease`, for all tests of a module. The module's markers apply."""
    with _leases(request, botfarm_farm, MODULE) as leases:
        yield leases.take


@pytest.fixture(scope="module")
def botfarm_module_user(request: pytest.FixtureRequest, botfarm_module_lease: "LeaseFactory") -> "LeasedUser":  # noqa: ARG001
    """A user that only the tests of this module hold. The module's markers apply."""
    return _one_user(request, MODULE)


@pytest.fixture(scope="session")
def botfarm_worker_user(request: pytest.FixtureRequest, botfarm_farm: "Botfarm") -> "Iterator[LeasedUser]":
    """A user that only this process holds, each worker of pytest-xdist its own. Markers do not apply."""
    with _leases(request, botfarm_farm, WORKER) as leases:
        yield leases.take_one()


@contextmanager
def _leases(request: pytest.FixtureRequest, farm: "Botfarm", scope: Scope) -> "Iterator[Leases]":
    from botfarm_client.pytest_plugin.leases import Leases  # noqa: PLC0415

    leases = request.node.stash[scope.stash] = Leases(farm, request.node, scope)
    yield leases
    leases.end()


def _one_user(request: pytest.FixtureRequest, scope: Scope) -> "LeasedUser":
    leases: Leases = request.node.stash[scope.stash]
    return leases.take_one()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begins a run of the test. A plugin that runs failed tests again calls this for each run."""
    item.stash[_TRIES] = item.stash.get(_TRIES, 0) + 1
    item.user_properties[:] = [each for each in item.user_properties if each[0] not in PROPERTIES]
    begin_run(item)
    item.config.stash[POST_MORTEM].item = item


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
        leases.look_at(failure, item)
