"""Users for all tests of a class or a module, and one user for a whole run, with a fake farm."""

import os
import xml.etree.ElementTree as ET

import pytest

pytest_plugins = ["pytester"]

CONFTEST = """
import pytest
from botfarm_client.testing import FakeFarm, FakePolicy, FakeUser

users = [FakeUser(f"{name}@x.test") for name in "abcd"] + [FakeUser("vip@x.test", domain="canary")]
farm = FakeFarm(users, policy=FakePolicy(lock_delay=0))

@pytest.fixture(scope="session")
def botfarm_farm():
    with farm.botfarm() as opened:
        yield opened

def pytest_sessionfinish():
    for lease in farm.leases:
        logins = ",".join(user.login for user in lease.users)
        print("\\nended:", lease.owner, logins, lease.ended_by, lease.outcome, lease.reason)
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in os.environ:
        if name.startswith(("BOTFARM_", "PYTEST_XDIST", "PYTEST_ADDOPTS")):
            monkeypatch.delenv(name)
    pytester.makeconftest(CONFTEST)
    return pytester


def run(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    absent = ("cacheprovider", "xdist", "asyncio", "pytest_httpx", "recording", "respx")
    return suite.runpytest_inprocess(*(f"-pno:{name}" for name in absent), "-s", *options)


def ended(result: pytest.RunResult) -> list[str]:
    return [line.removeprefix("ended: ") for line in result.stdout.lines if line.startswith("ended: ")]


def test_the_tests_of_a_class_or_module_have_one_user_on_the_terms_of_its_markers(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        test_it="""
        import pytest

        pytestmark = pytest.mark.botfarm(metadata={"suite": "checkout"})
        seen = []

        @pytest.fixture(scope="class")
        def signed_in(botfarm_class_user):
            return botfarm_class_user.login

        @pytest.mark.botfarm(domain="canary")
        class TestPaid:
            def test_one(self, signed_in):
                seen.append(signed_in)

            @pytest.mark.botfarm(domain="regular")
            def test_two(self, botfarm_class_user, botfarm_module_user, botfarm_user):
                assert botfarm_class_user.login == "vip@x.test" == seen[0]
                seen.extend([botfarm_module_user.login, botfarm_user.login])

        class TestOthers:
            def test_three(self, botfarm_class_lease):
                giver, taker = botfarm_class_lease(count=2).users
                seen.extend([giver.login, taker.login])

            def test_four(self, botfarm_module_user, request):
                assert seen[1] == botfarm_module_user.login
                assert len(set(seen)) == 5, "all of them were held at the same time, but for one test's"

        def test_outside_of_a_class(botfarm_class_user): ...
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=5)
    assert [line.split()[:3] for line in ended(result)] == [
        ["test_it.py::TestPaid", "vip@x.test", "released"],
        ["test_it.py", "a@x.test", "released"],
        ["test_it.py::TestPaid::test_two", "b@x.test", "released"],
        ["test_it.py::TestOthers", "c@x.test,d@x.test", "released"],
        ["test_it.py::test_outside_of_a_class", "b@x.test", "released"],
    ]


def test_a_class_or_module_says_at_its_end_what_its_tests_found(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it="""
        import pytest

        class Captcha(Exception): ...
        pytestmark = pytest.mark.botfarm(broken_on={Captcha: "captcha"})

        class TestBroken:
            def test_breaks(self, botfarm_class_user):
                raise Captcha

            def test_passes(self, botfarm_class_user, botfarm_module_user): ...

        class TestMarked:
            def test_marks(self, botfarm_class_user):
                botfarm_class_user.mark("dirty", note="a full cart")

            def test_fails(self, botfarm_class_user):
                assert False

        @pytest.mark.botfarm(count=2)
        class TestTwo:
            def test_one_is_not_two(self, botfarm_class_user): ...
        """
    )
    result = run(suite)
    result.assert_outcomes(passed=2, failed=2, errors=1)
    assert ended(result) == [
        "test_it.py::TestBroken a@x.test released broken captcha",
        "test_it.py b@x.test released ok None",
        "test_it.py::TestMarked c@x.test released dirty None",
    ]
    result.stdout.fnmatch_lines(
        ["botfarm: botfarm_class_user is one user: with count=2 take botfarm_class_lease().users"]
    )


def test_a_class_that_loses_its_user_fails_each_further_test_that_has_it(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        class TestIt:
            def test_loses(self, botfarm_class_user):
                farm.force_release(farm.leases[0].id)
                farm.advance(1_000)

            def test_next(self, botfarm_class_user):
                print("it has begun")

            def test_without(self, botfarm_module_user): ...

        class TestNext:
            def test_has_another(self, botfarm_class_user):
                assert botfarm_class_user.password
    """)
    result = run(suite)
    result.assert_outcomes(passed=2, failed=2)
    lost = [line for line in result.stdout.lines if line.startswith("botfarm: ") and "is lost" in line]
    assert len(lost) == 2
    result.stdout.no_fnmatch_line("*it has begun")


def test_a_loss_that_no_test_noticed_is_an_error_of_the_last_test(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        from conftest import farm

        class TestIt:
            def test_first(self, botfarm_class_user): ...

            def test_last(self, botfarm_class_user):
                farm.force_release(farm.leases[0].id)
    """)
    result = run(suite)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        ["*ERROR at teardown of TestIt.test_last*", "botfarm: a@x.test: lease * is lost: *"]
    )


def test_each_test_of_a_class_has_its_user_in_the_report(suite: pytest.Pytester) -> None:
    suite.makepyfile("""
        class TestIt:
            def test_takes(self, botfarm_class_lease):
                botfarm_class_lease()

            def test_fails(self, botfarm_class_lease):
                assert False

            def test_has_none(self): ...
    """)
    result = run(suite, "--junitxml=report.xml")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*- botfarm -*", "a@x.test  (pool shop/stage/regular, lease *"])
    found = {
        str(case.get("name")): [
            each.get("value") for each in case.iter("property") if each.get("name") == "botfarm_login"
        ]
        for case in ET.parse(suite.path / "report.xml").iter("testcase")
    }
    assert found == {"test_takes": ["a@x.test"], "test_fails": ["a@x.test"], "test_has_none": []}


def test_a_failed_test_keeps_the_users_of_its_class_and_worker_after_their_last_test(
    suite: pytest.Pytester,
) -> None:
    suite.makepyfile(
        test_it="""
        class TestFails:
            def test_fails(self, botfarm_class_user):
                assert False

            def test_goes_on(self, botfarm_class_user):
                assert botfarm_class_user.password

        class TestPasses:
            def test_it(self, botfarm_class_user): ...

        def test_with_all(botfarm_user, botfarm_module_user, botfarm_worker_user):
            assert False
        """
    )
    result = run(suite, "--botfarm-hold-failed=10m")
    result.assert_outcomes(passed=2, failed=2)
    kept = [line.split()[0] for line in ended(result) if line.split()[2] == "None"]
    assert len(kept) == 4
    assert [line for line in ended(result) if "released" in line] == [
        "test_it.py::TestPasses b@x.test released ok None"
    ]
    result.stdout.fnmatch_lines(["kept for a post-mortem, for 10m after its last test"])
    summary = result.stdout.str().partition("botfarm: users kept for a post-mortem")[2]
    names = [line for line in summary.splitlines()[1:] if line and not line.startswith((" ", "=", "FAILED"))]
    assert names == [
        "test_it.py::TestFails",
        "test_it.py::test_with_all",
        "test_it.py",
        "the user of this run",
    ]


def test_one_user_is_wanted_by_a_marker_and_for_a_whole_run(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        test_it="""
        import pytest

        pytestmark = pytest.mark.botfarm(labels={"plan": "paid"}, count=2)

        @pytest.mark.botfarm(domain="canary", count=1)
        def test_run(botfarm_user): ...

        @pytest.mark.botfarm(user="d@x.test")
        class TestMarked:
            def test_it(self, botfarm_class_user): ...

            @pytest.mark.botfarm(count=2)
            def test_any(self, botfarm_lease):
                assert botfarm_lease().users
        """
    )
    marked = run(suite, "-k", "TestMarked")
    marked.assert_outcomes(passed=2, deselected=1)
    assert [line.split()[1] for line in ended(marked)] == ["d@x.test", "a@x.test,b@x.test"]
    for_all = run(suite, "--botfarm-user=c@x.test")
    for_all.assert_outcomes(passed=2, failed=1)
    assert [line.split()[1] for line in ended(for_all)] == ["c@x.test", "c@x.test"]
    for_all.stdout.fnmatch_lines(["botfarm: *user*"])
