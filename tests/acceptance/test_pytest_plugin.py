"""The pytest plugin as suites use it: runs of pytest with a real farm."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise

import pytest

from support.farm import PASSWORD, TOKEN
from support.live_farm import Json, LiveFarm, live_farm

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
# Other plugins that are installed here are slow to load.
ONLY_OURS = ("-p", "no:cacheprovider", "-p", "botfarm_client.pytest_plugin")


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


@pytest.fixture
def run(farm: LiveFarm, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A suite of one file, in a process of its own, with users of a project of stage."""
    for name, value in farm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BOTFARM_ENV", "stage")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run_suite(suite: str, *options: str, project: str) -> pytest.RunResult:
        pytester.makepyfile(suite)
        monkeypatch.setenv("BOTFARM_PROJECT", project)
        result = pytester.runpytest_subprocess(*ONLY_OURS, *options)
        assert PASSWORD not in result.stdout.str() + result.stderr.str()
        assert TOKEN not in result.stdout.str() + result.stderr.str()
        return result

    return run_suite


def test_a_test_has_a_user_of_its_own_for_as_long_as_it_runs(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=0)
    project_id = farm.project_id(project)
    farm.user(project_id, login=f"red@{project}.test", labels={"team": "red"}, secrets={"pin": "1234"})
    farm.user(project_id, login=f"vip@{project}.test", domain="canary")
    suite = f"""
        import pytest
        pytestmark = pytest.mark.botfarm(labels={{"team": "red"}})

        def test_plain(botfarm_user):
            assert botfarm_user.login == "red@{project}.test"
            assert botfarm_user.password == {PASSWORD!r}
            assert botfarm_user.secrets == {{"pin": "1234"}}

        @pytest.mark.botfarm(domain="canary", labels={{}}, wait="5s", metadata={{"why": "vip"}})
        def test_closest_marker_counts(botfarm_user):
            assert botfarm_user.login == "vip@{project}.test"

        def test_factory(botfarm_lease):
            vip = botfarm_lease(domain="canary", labels={{}})
            red = botfarm_lease()
            assert {{vip.user.login, red.user.login}} == {{"vip@{project}.test", "red@{project}.test"}}
    """
    run(suite, "--strict-markers", project=project).assert_outcomes(passed=3)
    leases = farm.leases(project)
    assert [lease["ended_by"] for lease in leases] == ["released"] * 4
    names = [lease["owner"].rpartition("::")[2] for lease in leases]
    assert names == ["test_plain", "test_closest_marker_counts", "test_factory", "test_factory"]
    assert leases[1]["metadata"]["why"] == "vip"
    assert "@" in leases[0]["metadata"]["run_by"] or leases[0]["metadata"]["ci"]


def test_a_report_names_the_user_and_the_lease_and_never_the_password(
    run: Run, farm: LiveFarm, pytester: pytest.Pytester
) -> None:
    project = farm.project(users=2)
    suite = """
        def test_fails(botfarm_user, botfarm_worker_user):
            secret = botfarm_user.password
            assert botfarm_user.login == "nobody"

        def test_passes(botfarm_worker_user):
            assert botfarm_worker_user.password
    """
    result = run(suite, "--junitxml", "report.xml", project=project)
    result.assert_outcomes(passed=1, failed=1)
    worker, test = farm.leases(project)
    by_owner = {"::" in lease["owner"]: lease for lease in (worker, test)}
    shown = result.stdout.str()
    section = shown[shown.index("- botfarm -") :]
    for lease in by_owner.values():
        assert re.search(
            rf"{lease['users'][0]['login']} +\(pool {project}/stage/regular, lease {lease['id']}\)", section
        )
    cases = {case.get("name"): case for case in ET.parse(pytester.path / "report.xml").iter("testcase")}
    found = {
        name: {(each.get("name"), each.get("value")) for each in case.iter("property")}
        for name, case in cases.items()
    }
    both = {("botfarm_lease", lease["id"]) for lease in by_owner.values()}
    assert both < found["test_fails"]
    assert found["test_passes"] == {
        ("botfarm_lease", by_owner[False]["id"]),
        ("botfarm_login", by_owner[False]["users"][0]["login"]),
    }
    assert PASSWORD not in (pytester.path / "report.xml").read_text()


def test_an_exhausted_pool_fails_a_test_in_one_line(run: Run, farm: LiveFarm) -> None:
    project = farm.project(lock_delay=5)
    farm.take(project, ttl_seconds=300)
    suite = """
        import pytest

        @pytest.mark.botfarm(wait=1)
        def test_waits(botfarm_user): ...

        @pytest.mark.botfarm(count=2)
        def test_one_is_not_two(botfarm_user): ...

        @pytest.mark.botfarm(domian="canary")
        def test_misspelt(botfarm_user): ...

        @pytest.mark.botfarm(env="prod")
        def test_no_such_pool(botfarm_user): ...
    """
    result = run(suite, project=project)
    result.assert_outcomes(errors=4)
    shown = result.stdout.str()
    assert re.search(
        rf"^botfarm: pool {project}/stage exhausted after [12] s: 1 waiting, next free in \d+ s$",
        shown,
        re.MULTILINE,
    )
    assert re.search(
        r"^botfarm: botfarm_user is one user: with count=2 take botfarm_lease\(\)\.users$",
        shown,
        re.MULTILINE,
    )
    assert re.search(r"^botfarm: unknown: domian; there are env, domain, ", shown, re.MULTILINE)
    assert re.search(r"^botfarm: No user of this project .*: check the spelling", shown, re.MULTILINE)
    assert "Traceback" not in shown
    assert "botfarm_client" not in shown.partition("ERRORS")[2].partition("short test summary")[0]


def test_a_failed_test_may_keep_its_user_for_a_post_mortem(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=2)
    suite = """
        def test_fails(botfarm_user):
            assert not botfarm_user.login

        def test_passes(botfarm_user): ...
    """
    result = run(suite, "--botfarm-hold-failed=20m", "--botfarm-ttl=5s", project=project)
    result.assert_outcomes(passed=1, failed=1)
    kept, released = farm.leases(project)
    assert released["ended_by"] == "released"
    assert kept["ended_at"] is None
    assert kept["expires_in"] > 18 * 60
    result.stdout.fnmatch_lines(
        [
            "*- botfarm -*",
            "kept for a post-mortem, for 20m from now on",
            f"  to see the password:  botfarm leases show {kept['id']}",
            f"  to give it back:      botfarm leases release {kept['id']}",
        ]
    )
    farm.http.post(f"/leases/{kept['id']}/release").raise_for_status()


def test_a_test_that_loses_its_user_fails_even_when_it_does_not_notice(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=3)
    suite = """
        import os, httpx, pytest

        def force_release(lease_id):
            url = f"{os.environ['BOTFARM_URL']}/api/v1/leases/{lease_id}/force_release"
            headers = {"Authorization": f"Bearer {os.environ['BOTFARM_TOKEN']}"}
            httpx.post(url, json={"reason": "to see"}, headers=headers).raise_for_status()

        @pytest.mark.botfarm(ttl=3)
        def test_renewed_in_vain(botfarm_lease):
            lease = botfarm_lease()
            force_release(lease.id)
            assert lease.lost.wait(20)

        def test_noticed_at_the_end(botfarm_lease):
            force_release(botfarm_lease().id)

        @pytest.mark.botfarm(ttl=3)
        def test_notices(botfarm_lease):
            lease = botfarm_lease()
            force_release(lease.id)
            assert lease.lost.wait(20)
            lease.user.password

        def test_others(botfarm_user): ...
    """
    result = run(suite, project=project)
    result.assert_outcomes(passed=2, failed=2, errors=1)
    assert "another exception" not in result.stdout.str()
    lines = [line for line in result.stdout.lines if line.startswith("botfarm: u") and " is lost: " in line]
    assert len(lines) == 2, "one line for each that did not know"
    assert "lost under the test: somebody else may have used it meanwhile" in result.stdout.str()
    assert sorted(lease["ended_by"] for lease in farm.leases(project)) == ["forced"] * 3 + ["released"]


def test_users_that_a_test_reports_as_broken_are_released_as_broken(run: Run, farm: LiveFarm) -> None:
    project = farm.project(users=2)
    suite = """
        import pytest

        class Banned(Exception): ...
        pytestmark = pytest.mark.botfarm(broken_on=Banned)

        def test_banned(botfarm_user):
            raise Banned("no such luck")

        def test_fails(botfarm_user):
            assert not botfarm_user
    """
    run(suite, project=project).assert_outcomes(failed=2)
    assert [lease["outcome"] for lease in farm.leases(project)] == ["broken", "ok"]


def test_an_exception_has_a_reason_and_a_mark_names_the_only_user_that_broke(
    run: Run, farm: LiveFarm
) -> None:
    project = farm.project(users=4)
    suite = """
        import pytest

        class Captcha(Exception): ...
        class Banned(Exception): ...
        pytestmark = pytest.mark.botfarm(broken_on={Captcha: "captcha", Banned: "locked_out"})

        def test_banned(botfarm_user):
            raise Banned("no such luck")

        @pytest.mark.botfarm(count=2)
        def test_one_of_two(botfarm_lease):
            giver, taker = botfarm_lease().users
            taker.mark("broken", reason="mfa", note="at sign-in")
            raise Captcha

        def test_passes(botfarm_user):
            botfarm_user.mark("dirty", note="a full cart")

        @pytest.mark.botfarm(broken_on={Captcha: "bad luck"})
        def test_misspelt(botfarm_user): ...
    """
    result = run(suite, project=project)
    result.assert_outcomes(passed=1, failed=2, errors=1)
    result.stdout.fnmatch_lines(["botfarm: broken_on has no such reason: 'bad luck'; there are credential_*"])
    banned, one_of_two, passes = farm.leases(project)
    assert (banned["outcome"], banned["reason"], banned["note"]) == ("broken", "locked_out", "Banned")
    assert sorted(
        (user.get("outcome", "ok"), user.get("reason"), user.get("note")) for user in one_of_two["users"]
    ) == [("broken", "mfa", "at sign-in"), ("ok", None, None)]
    assert (passes["outcome"], passes["note"]) == ("dirty", "a full cart")


def test_workers_share_nothing_and_a_crash_disturbs_nobody(run: Run, farm: LiveFarm) -> None:
    ttl, lock_delay = 5, 1
    project = farm.project(users=8, lock_delay=lock_delay)
    suite = """
        import os, pytest

        @pytest.mark.parametrize("number", range(24))
        def test_many(botfarm_user, botfarm_worker_user, number):
            assert botfarm_user.id != botfarm_worker_user.id
            if number == 5:
                os._exit(1)
    """
    options = ("-p", "xdist", "-n", "4", f"--botfarm-ttl={ttl}", "--botfarm-wait=60s")
    run(suite, *options, project=project).assert_outcomes(passed=23, failed=1)
    farm.take(project, count=8, wait_seconds=20)
    leases = farm.leases(project)
    crashed = next(lease for lease in leases if lease["owner"].endswith("[5]"))
    theirs = {crashed["id"]} | {
        lease["id"]
        for lease in leases
        if lease["owner"]
        and "::" not in lease["owner"]
        and lease["metadata"]["worker"] == crashed["metadata"]["worker"]
    }
    assert len(theirs) == 2, "the test's and the worker's own"
    for before, after in turns(leases):
        assert before["fence"] < after["fence"]
        if before["id"] in theirs:
            assert before["ended_by"] == "expired"
            assert seconds_between(before["expires_at"], after["acquired_at"]) >= lock_delay
        else:
            assert before["ended_by"] == "released", "nobody else has lost a user"
            assert seconds_between(before["ended_at"], after["acquired_at"]) >= 0


def test_the_classes_of_a_run_with_xdist_have_a_user_each_renewed_until_their_last_test(
    run: Run, farm: LiveFarm
) -> None:
    project = farm.project(users=2)
    suite = """
        import time, pytest

        @pytest.mark.botfarm(ttl=2)
        class Base:
            def test_first(self, botfarm_class_user): ...

            def test_takes_longer_than_the_ttl(self, botfarm_class_lease, botfarm_class_user):
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline:
                    botfarm_class_user.password
                    time.sleep(0.05)

        class TestOne(Base): ...
        class TestTwo(Base): ...
    """
    result = run(suite, "-p", "xdist", "-n", "2", "--dist", "loadscope", project=project)
    result.assert_outcomes(passed=4)
    leases = farm.leases(project)
    assert sorted(lease["owner"].rpartition("::")[2] for lease in leases) == ["TestOne", "TestTwo"]
    assert {lease["ended_by"] for lease in leases} == {"released"}


def turns(leases: list[Json]) -> list[tuple[Json, Json]]:
    """Pairs of successive leases of the same user."""
    found = []
    for user_id in {user["id"] for lease in leases for user in lease["users"]}:
        held = [lease for lease in leases if user_id in {user["id"] for user in lease["users"]}]
        found += list(pairwise(held))
    return found


def seconds_between(first: str, second: str) -> float:
    return (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds()


def test_a_suite_without_a_farm_notices_nothing(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BOTFARM_URL", "BOTFARM_TOKEN", "PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile("""
        import sys

        def test_nothing_is_loaded():
            ours = {name for name in sys.modules if name.startswith("botfarm")}
            assert ours == {
                "botfarm_client",
                "botfarm_client.pytest_plugin",
                "botfarm_client.pytest_plugin.post_mortem",
                "botfarm_client.pytest_plugin.scopes",
                "botfarm_client.pytest_plugin.settings",
                "botfarm_client.shared",
                "botfarm_client.shared.text_input",
            }
            assert not {"httpx", "typer", "asyncio"} & set(sys.modules)

        def test_who_asks_is_told(botfarm_user): ...
    """)
    # Without the other plugins of this environment, which import further modules.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_subprocess(*ONLY_OURS, "--strict-markers")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(
        ["botfarm: no farm to take users from: set BOTFARM_URL (or --botfarm-url), and BOTFARM_TOKEN"]
    )


def test_settings_come_from_the_command_line_before_variables_before_the_ini_file(
    run: Run, farm: LiveFarm, pytester: pytest.Pytester
) -> None:
    project = farm.project(users=0)
    for env in ("stage", "preprod"):
        farm.user(farm.project_id(project), login=f"u@{project}.test", env=env, domain="canary")
    pytester.makeini(f"""
        [pytest]
        botfarm_project = {project}
        botfarm_env = preprod
        botfarm_domain = canary
        botfarm_ttl = 100
        strict_config = true
    """)
    suite = "def test_it(botfarm_user): ..."
    run(suite, project="").assert_outcomes(passed=1)
    run(suite, "--botfarm-env=preprod", "--botfarm-ttl=2m", project=project).assert_outcomes(passed=1)
    seen = [(lease["env"], lease["domain"], lease["ttl_seconds"]) for lease in farm.leases(project)]
    assert seen == [("stage", "canary", 100), ("preprod", "canary", 120)]
    of_the_farm = """
        import pytest

        @pytest.fixture(scope="module")
        def shared(botfarm_farm):
            with botfarm_farm.lease() as lease:
                yield lease

        def test_it(shared): ...
    """
    run(of_the_farm, "--botfarm-env=preprod", "--botfarm-ttl=3m", project=project).assert_outcomes(passed=1)
    last = farm.leases(project)[-1]
    assert (last["env"], last["domain"], last["ttl_seconds"]) == ("preprod", "canary", 180)
    taken = farm.take(project, env="preprod", domain="canary")
    waits = run(of_the_farm, "--botfarm-env=preprod", "--botfarm-wait=1", project=project)
    waits.assert_outcomes(errors=1)
    waits.stdout.fnmatch_lines(["*preprod/canary exhausted after [12] s*"])
    farm.http.post(f"/leases/{taken['id']}/release").raise_for_status()
    wrong = run(suite, "--botfarm-ttl=soon", project=project)
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["ERROR: botfarm: --botfarm-ttl (or botfarm_ttl): a duration is written as *"])
