"""`botfarm exec`: real commands under leases of a real farm, and every way in which they end."""

import json
import os
import pty
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from support.farm import PASSWORD, TOKEN
from support.live_farm import LiveFarm, live_farm, until
from support.processes import (
    BOTFARM,
    CHECKOUT,
    StartedProcess,
    assert_dies,
    clean_environment,
    is_alive,
    run_botfarm,
    start_botfarm,
)

SHOW = (
    sys.executable,
    "-c",
    "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if 'BOTFARM' in k}))",
)
# Records each signal. On USR1 it ends with 40 + their number.
COUNT = """
import os, signal, sys, time
heard = []
def hear(number, _):
    heard.append(signal.Signals(number).name)
    with open(sys.argv[1], "w") as file:
        print(*heard, file=file)
for name in ("SIGTERM", "SIGINT", "SIGHUP"):
    signal.signal(getattr(signal, name), hear)
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(40 + len(heard)))
print("ready", os.getppid(), flush=True)
while True:
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


class Running:
    def __init__(self, process: StartedProcess, out: IO[str], err: IO[str]) -> None:
        self.pid = process.pid
        self._process = process
        self._out, self._err = out, err

    def line(self) -> str:
        """The next line of standard output."""
        return self._out.readline().strip()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str, str]:
        """Its exit code, and what it wrote to its standard output and error."""
        code, out = self._process.wait(30), self._out.read()
        self._err.seek(0)
        return code, out, self._err.read()


def arguments(project: str, *options: str, command: tuple[str, ...]) -> list[str]:
    return ["exec", "--project", project, "--env", "stage", *options, "--", *command]


@contextmanager
def running(farm: LiveFarm, project: str, *options: str, command: tuple[str, ...]) -> Iterator[Running]:
    reading, writing = os.pipe()
    with (
        os.fdopen(reading) as out,
        os.fdopen(writing) as its_out,
        tempfile.TemporaryFile("w+") as err,
        open(os.devnull) as nothing,  # noqa: PTH123  no path
    ):
        files = (nothing.fileno(), writing, err.fileno())
        process = start_botfarm(
            arguments(project, *options, command=command), farm.environment, CHECKOUT, files
        )
        its_out.close()
        try:
            yield Running(process, out, err)
        finally:
            process.kill()
            process.wait()


def run(farm: LiveFarm, project: str, *options: str, command: tuple[str, ...]) -> tuple[int, str, str]:
    with running(farm, project, *options, command=command) as started:
        return started.end()


def content(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def only_lease(farm: LiveFarm, project: str) -> dict[str, object]:
    (lease,) = farm.leases(project)
    return lease


def test_a_command_has_the_credentials_and_not_the_token(farm: LiveFarm) -> None:
    project = farm.project(users=0)
    for number in (1, 2):
        farm.user(
            farm.project_id(project),
            login=f"u{number}@{project}.test",
            secrets={"pin": "1"},
            labels={"team": "red"},
        )
    code, out, err = run(farm, project, "--count", "2", "--label", "team=red", "--owner", "ann", command=SHOW)
    assert (code, err) == (0, "")
    found = json.loads(out)
    lease = only_lease(farm, project)
    users = {user["id"]: user["login"] for user in lease["users"]}  # type: ignore[attr-defined]
    assert found["BOTFARM_LEASE_ID"] == lease["id"]
    assert users[found["BOTFARM_USER_ID"]] == found["BOTFARM_LOGIN"]
    assert found["BOTFARM_PASSWORD"] == PASSWORD
    given = json.loads(found["BOTFARM_USERS"])
    assert {each["id"]: each["login"] for each in given} == users
    assert [(each["password"], each["secrets"]) for each in given] == [(PASSWORD, {"pin": "1"})] * 2
    assert TOKEN not in out
    assert (lease["ended_by"], lease["owner"]) == ("released", "ann")


def test_a_command_runs_with_one_user_by_its_login_or_by_choices_of_labels(farm: LiveFarm) -> None:
    project = farm.project(users=0)
    for name, labels in (("a", {"plan": "trial"}), ("b", {"plan": "paid", "legacy": "1"}), ("c", {})):
        farm.user(farm.project_id(project), login=f"{name}@{project}.test", labels=labels)
    for options, name in (
        (("--user", f"B@{project.upper()}.test"), "b"),
        (("--label", "plan=paid", "--label", "plan=trial", "--label", "!legacy"), "a"),
        (("--label", "!plan"), "c"),
    ):
        code, out, err = run(farm, project, *options, command=SHOW)
        assert (code, err) == (0, "")
        assert json.loads(out)["BOTFARM_LOGIN"] == f"{name}@{project}.test"
    code, _, err = run(farm, project, "--user", "nobody@shop.test", "--wait", "5s", command=SHOW)
    assert (code, "No user of this project and env has this login" in err) == (4, True), err


def test_a_command_that_wants_codes_may_have_the_token(farm: LiveFarm) -> None:
    _, out, _ = run(farm, farm.project(), "--keep-token", command=SHOW)
    assert json.loads(out)["BOTFARM_TOKEN"] == TOKEN


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_exec_ends_as_its_command_does(farm: LiveFarm, script: str, code: int) -> None:
    project = farm.project()
    assert run(farm, project, command=("sh", "-c", script)) == (code, "", "")
    assert only_lease(farm, project)["ended_by"] == "released"


def test_options_after_the_command_belong_to_the_command(farm: LiveFarm) -> None:
    project = farm.project()
    code, out, _ = run(farm, project, command=("printf", "%s|", "--count", "7", "--", "-x"))
    assert (code, out) == (0, "--count|7|--|-x|")
    bare = ("exec", "--project", project, "--env", "stage", "printf", "%s|", "--url", "nowhere")
    assert run_botfarm(*bare, environment=farm.environment).stdout == "--url|nowhere|"


def test_for_a_command_that_cannot_run_no_user_is_taken(farm: LiveFarm, tmp_path: Path) -> None:
    project = farm.project()
    plain = tmp_path / "plain"
    plain.write_text("echo")
    for command, code in ((f"{tmp_path}/nothing", 127), ("no-such-command", 127), (str(plain), 126)):
        exit_code, out, err = run(farm, project, command=(command,))
        assert (exit_code, out) == (code, "")
        assert err.startswith(f"botfarm: {command}: ")
        assert len(err.splitlines()) == 1
    assert farm.leases(project) == []


def test_a_command_that_fails_to_start_leaves_no_user_behind(farm: LiveFarm, tmp_path: Path) -> None:
    project = farm.project()
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    code, _, err = run(farm, project, command=(str(script),))
    assert (code, len(err.splitlines())) == (127, 1)
    script.write_text("no first line")
    assert run(farm, project, command=(str(script),))[0] == 126
    assert [lease["ended_by"] for lease in farm.leases(project)] == ["released"] * 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_command_once(farm: LiveFarm, number: signal.Signals, tmp_path: Path) -> None:
    project, heard = farm.project(), tmp_path / "heard"
    with running(farm, project, command=(sys.executable, "-c", COUNT, str(heard))) as started:
        assert started.line() == f"ready {started.pid}"
        started.send(number)
        assert until(lambda: content(heard)) == number.name
        assert only_lease(farm, project)["ended_at"] is None, "its teardown still has the user"
        started.send(signal.SIGUSR1)
        assert started.end() == (41, "", "")
    assert only_lease(farm, project)["ended_by"] == "released"


@pytest.mark.parametrize(
    ("number", "shell"),
    [
        (signal.SIGINT, ()),
        (signal.SIGHUP, ()),  # the kernel tells only the first process of the session
        (signal.SIGHUP, ("sh", "-c", '"$@"; exit', "sh")),  # ... and when that ends, all in the foreground
    ],
)
def test_a_signal_of_the_terminal_reaches_the_command_once(
    farm: LiveFarm, number: signal.Signals, shell: tuple[str, ...], tmp_path: Path
) -> None:
    project, heard = farm.project(), tmp_path / "heard"
    command = (*shell, BOTFARM, *arguments(project, command=(sys.executable, "-c", COUNT, str(heard))))
    leader, terminal = pty.fork()
    if leader == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execvpe(command[0], command, clean_environment({**farm.environment, "TERM": "dumb"}))
    shown = b""
    while not (ready := re.search(rb"ready (\d+)\s", shown)):
        shown += os.read(terminal, 4_096)
    pid = int(ready[1])
    try:
        if number == signal.SIGINT:
            os.kill(pid, signal.SIGSTOP)  # so that the two signals are not merged into one
            os.write(terminal, b"\x03")
        else:
            os.close(terminal)
        assert until(lambda: content(heard)) == number.name
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGUSR1)
        _, status = os.waitpid(leader, 0)
        assert_dies(pid)
    finally:
        for each in {leader, pid}:
            if is_alive(each):
                os.kill(each, signal.SIGKILL)
    assert shell or os.waitstatus_to_exitcode(status) == 41
    assert content(heard) == number.name
    assert only_lease(farm, project)["ended_by"] == "released"


def test_a_lease_is_renewed_until_the_teardown_is_over(farm: LiveFarm, tmp_path: Path) -> None:
    project, may_end = farm.project(), tmp_path / "may end"
    teardown = f"until [ -e '{may_end}' ]; do sleep 0.1; done; exit 3"
    script = f'trap "{teardown}" TERM; echo ready; while :; do sleep 0.1; done'
    with running(farm, project, "--ttl", "5s", command=("sh", "-c", script)) as started:
        assert started.line() == "ready"
        started.send(signal.SIGTERM)
        first = only_lease(farm, project)["expires_at"]
        later = until(
            lambda: str(only_lease(farm, project)["expires_at"]) > str(first) and only_lease(farm, project)
        )
        until(lambda: str(only_lease(farm, project)["expires_at"]) > str(later["expires_at"]))
        may_end.touch()
        assert started.end() == (3, "", "")
    assert only_lease(farm, project)["ended_by"] == "released"


def test_a_command_whose_lease_is_lost_is_stopped(farm: LiveFarm) -> None:
    project = farm.project()
    with running(farm, project, "--ttl", "2s", command=("sh", "-c", "echo $$; exec sleep 1000")) as started:
        pid = int(started.line())
        farm.force_release(str(only_lease(farm, project)["id"]))
        code, _, err = started.end()
    assert code == 75
    (line,) = err.splitlines()
    assert line.startswith(f"botfarm: lease {only_lease(farm, project)['id']} is lost: ")
    assert line.endswith("; sh was stopped")
    assert_dies(pid)


def test_a_command_that_ignores_term_is_killed_with_all_that_it_has_started(farm: LiveFarm) -> None:
    project = farm.project()
    stubborn = "trap '' TERM; setsid sleep 1000 & echo $!; echo $$; while :; do sleep 0.1; done"
    with running(farm, project, "--ttl", "2s", command=("sh", "-c", stubborn)) as started:
        pids = [int(started.line()), int(started.line())]
        farm.force_release(str(only_lease(farm, project)["id"]))
        assert started.end()[0] == 75
    for pid in pids:
        assert_dies(pid)


def test_children_that_a_stopped_shell_leaves_behind_are_ended(farm: LiveFarm) -> None:
    project = farm.project()
    with running(farm, project, command=("sh", "-c", "sleep 1000 & echo $!; wait")) as started:
        left = int(started.line())
        started.send(signal.SIGTERM)
        assert started.end()[0] == 143
    assert_dies(left)
    assert only_lease(farm, project)["ended_by"] == "released"


def test_a_loss_that_is_found_only_at_the_release_is_reported(farm: LiveFarm, tmp_path: Path) -> None:
    project, may_end = farm.project(), tmp_path / "may end"
    waiting = f"echo ready; until [ -e '{may_end}' ]; do sleep 0.1; done"
    with running(farm, project, command=("sh", "-c", waiting)) as started:
        assert started.line() == "ready"
        farm.force_release(str(only_lease(farm, project)["id"]))
        may_end.touch()
        code, _, err = started.end()
    assert code == 75
    (line,) = err.splitlines()
    assert line.endswith(": do not trust what sh has found")


def test_exec_reports_an_exhausted_pool_as_leases_acquire_does(farm: LiveFarm) -> None:
    project = farm.project()
    farm.take(project)
    code, out, err = run(farm, project, "--wait", "1s", command=("true",))
    assert (code, out) == (5, "")
    (line,) = err.splitlines()
    assert line.startswith("botfarm: ")
    assert "next_free_in 15m" in line or "next_free_in 14m" in line


def test_a_signal_during_the_wait_takes_no_user(farm: LiveFarm) -> None:
    project = farm.project()
    farm.take(project)

    def waiting() -> list[object]:
        return list(farm.get("/leases/waiting", project_id=farm.project_id(project))["items"])

    with running(farm, project, "--wait", "10m", command=("true",)) as started:
        until(waiting)
        started.send(signal.SIGTERM)
        code, out, err = started.end()
        assert (code, out) == (143, "")
        assert "Traceback" not in err
    assert len(farm.leases(project)) == 1
