"""`botfarm chores` and `botfarm leases hold`: keepers in any language, and persons, on a real farm."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from support.farm import PASSWORD, TOKEN
from support.live_farm import LiveFarm, live_farm, until
from support.processes import BOTFARM, CHECKOUT, StartedProcess, run_botfarm, start_botfarm

SHOW = (
    sys.executable,
    "-c",
    "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'BOTFARM' in k}))",
)


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


class Ended:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err


class Running:
    def __init__(self, process: StartedProcess, out: IO[str], err: IO[str]) -> None:
        self._process, self._out, self._err = process, out, err
        self.pid = process.pid

    def said(self) -> str:
        """Its standard error up to now."""
        self._err.seek(0)
        return self._err.read()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> Ended:
        code = self._process.wait(30)
        self._out.seek(0)
        return Ended(code, self._out.read(), self.said())


@contextmanager
def running(
    farm: LiveFarm, project: str, *options: str, command: tuple[str, ...], token: str = TOKEN
) -> Iterator[Running]:
    arguments = ["chores", "run", "--project", project, "--env", "stage", *options, "--", *command]
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        open(os.devnull) as nothing,  # noqa: PTH123  no path
    ):
        files = (nothing.fileno(), out.fileno(), err.fileno())
        environment = {"BOTFARM_URL": farm.url, "BOTFARM_TOKEN": token}
        process = start_botfarm(arguments, environment, CHECKOUT, files)
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()


def run(farm: LiveFarm, project: str, *options: str, command: tuple[str, ...], token: str = TOKEN) -> Ended:
    with running(farm, project, *options, command=command, token=token) as started:
        return started.end()


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def ends(farm: LiveFarm, project: str) -> list[tuple[Any, Any, Any]]:
    """Outcome, reason and note of each chore, the first one first."""
    chores = farm.leases(project, purpose="chore")
    return [(lease["outcome"], lease["reason"], lease["note"]) for lease in chores]


def test_a_command_runs_for_each_user_that_is_due_with_its_credentials(farm: LiveFarm) -> None:
    project = farm.project(2, check_every=3_600)
    ended = run(farm, project, "--owner", "the keeper", command=SHOW)
    assert (ended.code, ended.out) == (0, "2 chores: 2 ok.\n")
    shown = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    leases = farm.leases(project)
    assert [each["BOTFARM_LEASE_ID"] for each in shown] == [lease["id"] for lease in leases]
    assert {each["BOTFARM_LOGIN"] for each in shown} == {f"u{n}@{project}.test" for n in range(2)}
    for each in shown:
        assert (each["BOTFARM_PASSWORD"], each["BOTFARM_DUE"]) == (PASSWORD, "check")
        assert (each["BOTFARM_TOKEN"], each["BOTFARM_URL"]) == (TOKEN, farm.url)
        assert "BOTFARM_PENDING_PASSWORD" not in each
        assert f"botfarm: {each['BOTFARM_LOGIN']} (check): ok\n" in ended.err
    assert ends(farm, project) == [("ok", None, None)] * 2
    assert {lease["owner"] for lease in leases} == {"the keeper"}


def test_without_anything_due_no_command_runs(farm: LiveFarm) -> None:
    project = farm.project(1)
    ended = run(farm, project, "--json", command=sh("echo never; exit 3"))
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out) == {"chores": 0, "ok": 0, "dirty": 0, "broken": 0, "lost": 0}


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("exit 10", ("dirty", None, None)),
        ("echo first; echo 'the cart cannot be emptied' >&2; exit 10", ("dirty", None, "the cart cannot be emptied")),
        ("echo 'captcha: asks for a picture'; echo; exit 11", ("broken", "captcha", "asks for a picture")),
        ("printf '\\033[31mlocked_out\\033[0m'; exit 11", ("broken", "locked_out", None)),
        ("echo 'no: such reason'; exit 11", ("broken", None, "no: such reason")),
        ('echo "rejected $BOTFARM_PASSWORD!"; exit 11', ("broken", None, "rejected ***!")),
        ("exit 3", ("dirty", None, "exit code 3")),
        ("kill -9 $$", ("dirty", None, "exit code 137")),
    ],
)  # fmt: skip
def test_the_exit_code_and_the_last_line_say_how_the_user_is_left(
    farm: LiveFarm, script: str, verdict: tuple[Any, Any, Any]
) -> None:
    project = farm.project(1, check_every=3_600, clean_attempts=1, quarantine_share=1)
    ended = run(farm, project, command=sh(script))
    assert ended.code == 0
    assert ends(farm, project) == [verdict]
    assert ended.out == f"1 chore: 1 {verdict[0]}.\n"
    assert f" (check): {verdict[0]}" in ended.err


def test_a_long_last_line_is_cut_to_what_a_note_may_be(farm: LiveFarm) -> None:
    project = farm.project(1, check_every=3_600, clean_attempts=1, quarantine_share=1)
    run(farm, project, command=(sys.executable, "-c", "print('x' * 50_000 + 'the end'); exit(11)"))
    ((_, _, note),) = ends(farm, project)
    assert (len(note), note[-9:]) == (1_000, "xxthe end")


def test_a_site_that_is_away_ends_the_chores_early(farm: LiveFarm) -> None:
    project = farm.project(3, check_every=3_600)
    ended = run(farm, project, command=sh("echo 'environment: the shop is down'; exit 11"))
    assert (ended.code, ended.out) == (0, "1 chore: 1 broken.\n")
    assert ends(farm, project) == [("broken", "environment", "the shop is down")]
    assert "botfarm: the chores end early: the last one ended with environment\n" in ended.err


def test_a_script_changes_a_password_and_keeps_a_session(farm: LiveFarm) -> None:
    project = farm.project(1, rotate_on_release=True, session_refresh=60)
    lease = farm.take(project)
    farm.http.post(f"/leases/{lease['id']}/release").raise_for_status()
    keeper = {"name": project, "role": "keeper", "projects": [project], "envs": ["stage"]}
    token = farm.http.post("/tokens", json=keeper).raise_for_status().json()["token"]
    script = (
        f"PATH={Path(BOTFARM).parent}:$PATH"
        """
        set -eu
        [ "$BOTFARM_DUE" = clean,rotate ]
        new=$(botfarm chores rotate)
        [ "$new" = "$(botfarm chores rotate)" ]
        botfarm chores confirm
        echo '{"session": "s-1"}' | botfarm leases write-back "$BOTFARM_LEASE_ID" --secrets - --session-ends-in 1h
    """
    )
    ended = run(farm, project, command=sh(script), token=token)
    assert ended.out == "1 chore: 1 ok.\n", ended.err
    assert f"u0@{project}.test has its new password.\n" in ended.err
    (user,) = farm.take(project)["users"]
    assert (len(user["password"]), user["secrets"]) == (24, {"session": "s-1"})
    assert user["password"] not in ended.err
    assert farm.get(f"/users/{user['id']}")["session_expires_at"] is not None


def test_the_next_command_has_the_password_that_an_earlier_one_left_pending(farm: LiveFarm) -> None:
    project = farm.project(1, check_every=3_600)
    lease = farm.take(project, purpose="chore")
    environment = {
        **farm.environment,
        "BOTFARM_LEASE_ID": lease["id"],
        "BOTFARM_USER_ID": lease["users"][0]["id"],
    }
    rotated = run_botfarm(
        "chores", "rotate", "--password", "--json", environment=environment, stdin="a new one"
    )
    assert json.loads(rotated.stdout) == {"pending_password": "a new one"}
    farm.http.post(f"/leases/{lease['id']}/release", json={"outcome": "dirty"}).raise_for_status()
    ended = run(farm, project, command=sh('echo "$BOTFARM_DUE $BOTFARM_PENDING_PASSWORD"'))
    assert ended.err.splitlines()[0] == "clean,check,rotate a new one"
    assert ended.out == "4 chores: 4 ok.\n", "it confirms nothing, so the user stays dirty"
    assert f"the chores end early: the user {lease['users'][0]['id']} is due again after 4 tries" in ended.err
    again = run_botfarm("chores", "confirm", environment=environment)
    assert (again.returncode, again.stdout) == (6, ""), "its lease has ended"


def test_a_keeper_that_runs_forever_waits_for_the_next_user(farm: LiveFarm) -> None:
    project = farm.project(1, cleaning="required")

    def waiting() -> list[object]:
        return list(farm.get("/leases/waiting", project_id=farm.project_id(project))["items"])

    with running(farm, project, "--forever", "--json", command=sh("exit 0")) as started:
        for number in range(2):
            until(waiting)
            lease = farm.take(project)
            farm.http.post(f"/leases/{lease['id']}/release").raise_for_status()
            until(lambda number=number: started.said().count(" (clean): ok") > number)
        until(waiting)
        started.send(signal.SIGTERM)
        ended = started.end()
    assert (ended.code, json.loads(ended.out)["ok"]) == (143, 2)
    assert ends(farm, project) == [("ok", None, None)] * 2


@pytest.mark.parametrize(
    ("script", "code"), [("echo ready; exec sleep 1000", 143), ("trap 'exit 0' TERM; echo ready; sleep 1000 & wait", 0)]
)  # fmt: skip
def test_a_signal_ends_the_command_and_leaves_its_user_dirty(farm: LiveFarm, script: str, code: int) -> None:
    project = farm.project(2, check_every=3_600)
    with running(farm, project, "--forever", command=sh(script)) as started:
        until(lambda: "ready" in started.said())
        started.send(signal.SIGTERM)
        ended = started.end()
    assert (ended.code, ended.out) == (code, "1 chore: 1 dirty.\n")
    assert ends(farm, project) == [("dirty", None, "the keeper was told to end")]


def test_a_command_whose_lease_is_lost_is_stopped_and_the_next_chore_begins(farm: LiveFarm) -> None:
    project = farm.project(1, check_every=3_600)
    script = '[ "$BOTFARM_DUE" = check ] || exit 0; echo ready; exec sleep 1000'
    with running(farm, project, "--ttl", "2s", command=sh(script)) as started:
        until(lambda: "ready" in started.said())
        (lease,) = farm.leases(project)
        farm.force_release(str(lease["id"]))
        ended = started.end()
    assert (ended.code, ended.out) == (0, "2 chores: 1 ok, 1 lost.\n")
    assert f"botfarm: lease {lease['id']} is lost: " in ended.err
    assert f"botfarm: u0@{project}.test (check): lost\n" in ended.err


def test_a_command_that_cannot_run_takes_nobody(farm: LiveFarm) -> None:
    project = farm.project(1, check_every=3_600)
    ended = run(farm, project, command=("no-such-command",))
    assert (ended.code, ended.out) == (127, "")
    assert ended.err == "botfarm: no-such-command: no such command\n"
    assert farm.leases(project) == []


def test_a_person_holds_a_user(farm: LiveFarm) -> None:
    project = farm.project(2)

    def botfarm(*arguments: str, code: int = 0) -> str:
        done = run_botfarm("leases", *arguments, environment=farm.environment)
        assert done.returncode == code, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout or done.stderr

    login = f"u0@{project}.test"
    shown = botfarm("hold", login, "--note", "a look at the cart", "--ttl", "20m").splitlines()
    (lease,) = farm.leases(project)
    assert (lease["purpose"], lease["note"], lease["ttl_seconds"]) == ("hold", "a look at the cart", 1_200)
    assert shown[0].startswith(f"{login} is held until 2")
    assert shown[0].endswith(f" for 20m: lease {lease['id']}")
    assert shown[-1] == f"  to give it back:      botfarm leases release {lease['id']}"
    botfarm("hold", login, "--note", "me too", code=5)
    where = ("--project", project, "--env", "stage")
    other = json.loads(botfarm("hold", *where, "--note", "any", "--json"))
    assert [user["login"] for user in other["users"]] == [f"u1@{project}.test"]
    botfarm("hold", *where, "--note", "one more", code=5)
    botfarm("release", str(lease["id"]))
    assert farm.leases(project)[0]["ended_by"] == "released"
