"""The pytest plugin with a fake farm, for suites that must not need a real one."""

import os

import pytest

from botfarm_client.pytest_plugin.scopes import CLASS, FUNCTION, MODULE, WORKER
from botfarm_client.pytest_plugin.settings import _SETTINGS, _VARIABLES, TERMS
from support.processes import CHECKOUT

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser

farm = FakeFarm([FakeUser("a@x.test"), FakeUser("b@x.test")], policy=FakePolicy(lock_delay=0))

@pytest.fixture(scope="session")
def botfarm_farm():
    with farm.botfarm() as opened:
        yield opened

def pytest_sessionfinish():
    for lease in farm.leases:
        print("\\nended:", lease.owner.rpartition("::")[2], lease.ended_by, lease.outcome)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in os.environ:
        if name.startswith(("BOTFARM_", "PYTEST_XDIST", "PYTEST_ADDOPTS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv(
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1"
    )  # other plugins that are installed here are slow to load
    pytester.makeconftest(CONFTEST)
    return pytester


def run(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return suite.runpytest_inprocess(
        *("-p", "botfarm_client.pytest_plugin", "-p", "no:cacheprovider", "-s"), *options
    )


def test_a_suite_may_bring_its_own_farm(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        "def test_it(botfarm_user, botfarm_worker_user):\n"
        "    assert botfarm_user.login != botfarm_worker_user.login"
    )
    result = run(suite)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["ended: test_it released *"])


def test_a_worker_that_has_lost_its_user_begins_no_further_test_with_it(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        def test_loses(botfarm_worker_user):
            (lease,) = farm.leases
            farm.force_release(lease.id)
            farm.advance(1_000)

        def test_next(botfarm_worker_user):
            print("it has begun")

        def test_other(botfarm_user): ...
    """)
    result = run(suite)
    result.assert_outcomes(passed=1, failed=2)
    assert (
        len([line for line in result.stdout.lines if line.startswith("botfarm: ") and "is lost" in line]) == 2
    )
    result.stdout.no_fnmatch_line("*it has begun")


def test_a_test_may_release_what_it_took(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        def test_it(botfarm_lease):
            botfarm_lease().release("dirty")

        def test_fails(botfarm_lease):
            botfarm_lease().release("dirty")
            assert False
    """)
    result = run(suite, "--botfarm-hold-failed=10m")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["ended: test_it released dirty", "ended: test_fails released dirty"])
    result.stdout.no_fnmatch_line("*post-mortem*")


def test_broken_on_takes_any_collection_and_is_checked_before_a_user_is_taken(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.mark.botfarm(broken_on=[ValueError])
        def test_breaks(botfarm_user):
            raise ValueError

        @pytest.mark.botfarm(broken_on="ValueError")
        def test_wrong(botfarm_user): ...
    """)
    result = run(suite)
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["ended: test_breaks released broken", "botfarm: broken_on takes classes of *"]
    )
    result.stdout.no_fnmatch_line("ended: test_wrong*")


def test_a_worker_user_that_is_asked_for_on_the_way_is_looked_at_too(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        def test_it(request):
            request.getfixturevalue("botfarm_worker_user")
            farm.advance(1_000)
    """)
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["botfarm: *x.test: lease * is lost: *"])


def test_a_farm_that_is_away_at_the_end_fails_no_test(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        def test_it(botfarm_user):
            farm.fail_next("internal", times=1)
    """)
    run(suite).assert_outcomes(passed=1)


def test_a_user_that_cannot_be_kept_is_released(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        def test_fails(botfarm_user):
            farm.fail_next("internal", times=1)
            assert False
    """)
    result = run(suite, "--botfarm-hold-failed=10m")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["ended: test_fails released *", "*- botfarm -*", "not kept for a post-mortem: 500 internal: *"]
    )


def test_a_setup_that_fails_may_keep_the_user_too(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.fixture
        def signed_in(botfarm_user):
            raise RuntimeError("a captcha")

        def test_it(signed_in): ...
    """)
    result = run(suite, "--botfarm-hold-failed=10m")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["a@x.test  (pool shop/stage/regular, lease *", "kept for a post-mortem, for 15m*"]
    )
    result.stdout.fnmatch_lines(["ended: test_it None *"])


def test_long_test_names_work_and_invalid_markers_are_refused(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        import pytest

        @pytest.mark.parametrize("name", ["長い" * 200])
        def test_long(botfarm_user, name): ...

        @pytest.mark.botfarm("stage")
        def test_by_place(botfarm_user): ...

        @pytest.mark.botfarm(wait="soon")
        def test_no_duration(botfarm_user): ...

        @pytest.mark.botfarm(wait=0.5)
        def test_short_wait(botfarm_user): ...

        @pytest.mark.botfarm(wait=float("nan"))
        def test_no_number(botfarm_user): ...

        @pytest.mark.botfarm(count=2)
        def test_two(botfarm_lease):
            first, second = botfarm_lease().users
            assert first.login != second.login
    """)
    result = run(suite, "--strict-markers")
    result.assert_outcomes(passed=3, errors=3)
    result.stdout.fnmatch_lines(
        [
            "botfarm: write the marker's arguments with their names: botfarm(env='stage')",
            "botfarm: wait: a duration is written as *",
        ]
    )


@pytest.mark.parametrize("options", [[], ["--tb=long"]], ids=["as it is", "long"])
def test_credentials_that_could_not_be_written_back_are_shown_nowhere(
    suite: pytest.Pytester, options: list[str]
) -> None:
    suite.makepyfile("""
        import asyncio
        import pytest
        from botfarm_client.leasing import holder_requests
        from conftest import farm

        @pytest.fixture(autouse=True)
        def no_patience(monkeypatch):
            monkeypatch.setattr(holder_requests, "PATIENCE", 0)

        def changes():
            return {"password": "NEW" + "PASSWORD", "secrets": {"cookie": "SESSION" + "COOKIE"}}

        @pytest.mark.parametrize("how", ["refused", "lost", "internal"])
        def test_thread(botfarm_lease, how):
            lease = botfarm_lease()
            farm.fail_next(how)
            lease.write_back(**changes())

        @pytest.mark.parametrize("how", ["refused", "lost", "internal"])
        def test_task(how):
            async def change():
                async with farm.async_botfarm() as opened, opened.lease(owner="task") as lease:
                    farm.fail_next(how)
                    await lease.write_back(**changes())

            asyncio.run(change())

        def test_no_such_value(botfarm_lease):
            botfarm_lease().write_back(password="NEW" + "PASSWORD", secrets={"cookie": object()})
    """)
    result = run(suite, "--junitxml=report.xml", *options)
    result.assert_outcomes(failed=7)
    shown = result.stdout.str() + result.stderr.str() + (suite.path / "report.xml").read_text()
    assert "cannot reach the farm" in shown
    assert "refused" in shown, "the cause is shown"
    assert not [word for word in ("NEWPASSWORD", "SESSIONCOOKIE") if word in shown]


def test_the_guide_names_all_options_and_fixtures() -> None:
    guide = (CHECKOUT / "docs/pytest.md").read_text()
    options = [f"`--botfarm-{name}`" for name in _SETTINGS]
    keys = [f"`botfarm_{name.replace('-', '_')}`" for name in _SETTINGS]
    terms = [f"`{name}`" for name in TERMS]
    fixtures = [f"`{scope.user}`" for scope in (FUNCTION, CLASS, MODULE, WORKER)]
    named = (*options, *keys, *terms, *fixtures, *_VARIABLES.values())
    assert not [name for name in named if name not in guide]


def test_a_lease_that_is_lost_before_its_masks_fails_in_one_line(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    suite.makepyfile("""
        import pytest

        @pytest.fixture(scope="session")
        def botfarm_farm(botfarm_farm):
            acquire = botfarm_farm.acquire

            def lost(**wanted):
                lease = acquire(**wanted)
                lease.release()
                return lease

            botfarm_farm.acquire = lost
            return botfarm_farm

        def test_it(botfarm_user): ...
    """)
    result = run(suite)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["botfarm: lease * is not held any more: *"])
    result.stdout.no_fnmatch_line("*LeaseLostError*")
