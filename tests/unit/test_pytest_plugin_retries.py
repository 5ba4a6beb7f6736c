"""Failed tests that plugins run again: only the last run keeps users, and is reported."""

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

import pytest

from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
RETRYING = {
    "pytest-rerunfailures": ("-p", "pytest_rerunfailures", "--reruns=2"),
    "pytest-retry": ("-p", "pytest_retry.retry_plugin", "--retries=2"),
    "flaky": ("-p", "flaky.flaky_pytest_plugin", "--force-flaky", "--max-runs=3"),
}
SUITE = """
    import itertools

    tries = itertools.count(1)

    def test_it(botfarm_user, botfarm_worker_user):
        assert next(tries) > {failures}
"""


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    users = [FakeUser(f"{name}@x.test") for name in "abcd"]
    with FakeFarm(users, policy=FakePolicy(lock_delay=0)) as opened:
        yield opened


@pytest.fixture
def run(farm: FakeFarm, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name, value in {**farm.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run_suite(suite: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(suite)
        ours = ("-p", "no:cacheprovider", "-p", "botfarm_client.pytest_plugin")
        return pytester.runpytest_subprocess(
            *ours, "--botfarm-hold-failed=10m", "--junitxml=report.xml", *options
        )

    return run_suite


@pytest.mark.parametrize("retrying", RETRYING.values(), ids=RETRYING)
def test_a_test_that_passes_in_the_end_keeps_nobody(
    run: Run, farm: FakeFarm, retrying: tuple[str, ...]
) -> None:
    result = run(SUITE.format(failures=2), *retrying)
    assert result.ret == pytest.ExitCode.OK
    assert [lease.ended_by for lease in farm.leases if "::" in (lease.owner or "")] == ["released"] * 3
    result.stdout.no_fnmatch_line("*post-mortem*")


@pytest.mark.parametrize("retrying", RETRYING.values(), ids=RETRYING)
def test_only_the_last_try_keeps_its_user_and_the_summary_says_so(
    run: Run, farm: FakeFarm, retrying: tuple[str, ...]
) -> None:
    result = run(SUITE.format(failures=3), *retrying)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    *earlier, last = [lease for lease in farm.leases if "::" in (lease.owner or "")]
    assert [lease.ended_by for lease in earlier] == ["released"] * 2
    assert last.ended_by is None
    login = last.users[0].login
    section = result.stdout.str().partition("botfarm: users kept for a post-mortem")[2]
    assert (
        f"test_only_the_last_try_keeps_its_user_and_the_summary_says_so.py::test_it\n  {login}  for "
        in section
    )
    assert f"botfarm leases show {last.id}, botfarm leases release {last.id}" in section
    result.stdout.fnmatch_lines(
        ["*- botfarm -*", f"{login}  (pool *lease {last.id})", "kept for a post-mortem*"]
    )
    assert not [lease.id for lease in earlier if lease.id in result.stdout.str()]


@pytest.mark.parametrize("retrying", RETRYING.values(), ids=RETRYING)
def test_a_test_has_the_properties_of_its_last_try(
    run: Run, farm: FakeFarm, pytester: pytest.Pytester, retrying: tuple[str, ...]
) -> None:
    run(SUITE.format(failures=2), *retrying)
    last = next(lease for lease in reversed(farm.leases) if "::" in (lease.owner or ""))
    *_, case = ET.parse(pytester.path / "report.xml").iter("testcase")
    found = [(each.get("name"), each.get("value")) for each in case.iter("property")]
    assert len(found) == 4, "those of the test and those of the worker"
    assert ("botfarm_lease", last.id) in found
    assert ("botfarm_login", last.users[0].login) in found


def test_workers_of_xdist_tell_the_summary(run: Run, farm: FakeFarm) -> None:
    suite = """
        import pytest

        @pytest.mark.parametrize("name", ["one", "two"])
        def test_it(botfarm_user, name):
            assert name == "one"
    """
    result = run(suite, "-p", "xdist", "-n", "2", *RETRYING["pytest-rerunfailures"])
    assert result.parseoutcomes() == {"passed": 1, "failed": 1, "rerun": 2}
    (kept,) = [lease for lease in farm.leases if lease.ended_by is None]
    section = result.stdout.str().partition("botfarm: users kept for a post-mortem")[2]
    assert "::test_it[two]" in section
    assert kept.id in section
    assert "::test_it[one]" not in section


def test_a_try_that_ends_before_it_has_a_user_keeps_nobody(run: Run, farm: FakeFarm) -> None:
    suite = """
        import itertools, pytest

        tries = itertools.count(1)

        @pytest.fixture
        def shop():
            if next(tries) == 3:
                raise RuntimeError("the shop is closed")

        def test_it(shop, botfarm_user):
            assert False
    """
    result = run(suite, *RETRYING["pytest-rerunfailures"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert [lease.ended_by for lease in farm.leases] == ["released"] * 2
    result.stdout.no_fnmatch_line("*post-mortem*")


@pytest.mark.parametrize("retrying", RETRYING.values(), ids=RETRYING)
def test_a_class_or_module_keeps_its_user_only_where_the_last_try_of_a_test_failed(
    run: Run, farm: FakeFarm, retrying: tuple[str, ...]
) -> None:
    suite = """
        import itertools

        tries = itertools.count(1)

        class TestPasses:
            def test_first(self, botfarm_class_user): ...

            def test_passes_in_the_end(self, botfarm_class_user, botfarm_module_user):
                assert next(tries) > 2

            def test_last(self, botfarm_class_user): ...

        class TestFails:
            def test_fails(self, botfarm_class_user):
                assert False
    """
    result = run(suite, *retrying)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (kept,) = [lease for lease in farm.leases if lease.ended_by is None]
    assert str(kept.owner).endswith("::TestFails")
    section = result.stdout.str().partition("botfarm: users kept for a post-mortem")[2]
    assert section.count("botfarm leases release") == 1
    assert kept.id in section
