"""Leases whose secrets do not fit into the environment of a program."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from botfarm_client.cli import app
from botfarm_client.commands.leases.variables import USERS, with_users_file
from botfarm_client.testing import FakeFarm, FakeUser
from support.fake_lease import ACQUIRE, LEASE_ID, farm, user
from support.processes import BOTFARM, clean_environment

# The farm takes 256 KiB of secrets for each user; Linux takes 128 KiB for each variable.
SESSION = {"storage_state": {"cookies": [{"name": "sid", "value": "x1" * 125_000}]}}
SHOW = """
import json, os, stat, sys
path = os.environ.get("BOTFARM_USERS_FILE")
print(json.dumps({
    "inline": os.environ.get("BOTFARM_USERS"),
    "path": path,
    "file": path and open(path).read(),
    "mode": path and stat.S_IMODE(os.stat(path).st_mode),
}))
"""
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="is about the limits of Linux")


def run_exec(
    fake: FakeFarm, folder: Path, command: list[str], **variables: str
) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment({**fake.environment, "TMPDIR": str(folder), **variables})
    return subprocess.run(
        [BOTFARM, "exec", "--count", str(len(fake.users)), "--", *command],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("users", [1, 3])
def test_a_command_gets_a_file_of_the_users_for_as_long_as_it_runs(users: int, tmp_path: Path) -> None:
    with FakeFarm([FakeUser(f"u{n}@x.test", secrets=SESSION) for n in range(users)]) as fake:
        outer = {"BOTFARM_USERS": "of an outer exec", "BOTFARM_USERS_FILE": "/of/an/outer"}
        finished = run_exec(fake, tmp_path, [sys.executable, "-c", SHOW], **outer)
        assert (finished.returncode, finished.stderr) == (0, "")
    shown = json.loads(finished.stdout)
    assert shown["inline"] is None
    assert [each["secrets"] for each in json.loads(shown["file"])] == [SESSION] * users
    assert shown["mode"] == stat.S_IRUSR | stat.S_IWUSR
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_fits_needs_no_file(tmp_path: Path) -> None:
    with FakeFarm([FakeUser("a@x.test", secrets={"token": "x1" * 60_000})]) as fake:
        shown = json.loads(
            run_exec(fake, tmp_path, [sys.executable, "-c", SHOW], BOTFARM_USERS_FILE="/x").stdout
        )
    assert shown["path"] is None
    assert json.loads(shown["inline"])[0]["login"] == "a@x.test"


def test_a_lease_that_fits_needs_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def there_is_none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr("botfarm_client.commands.exec.under_lease.gettempdir", there_is_none)
    with FakeFarm([FakeUser("a@x.test")]) as fake:
        ran = CliRunner().invoke(app, ["exec", "--", "true"], env=dict(fake.environment))
    assert (ran.exit_code, ran.output) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_file_behind(number: signal.Signals, tmp_path: Path) -> None:
    waiting = "import os, time; print(os.environ['BOTFARM_USERS_FILE'], flush=True); time.sleep(1000)"
    with FakeFarm([FakeUser("a@x.test", secrets=SESSION)]) as fake:
        process = subprocess.Popen(
            [BOTFARM, "exec", "--", sys.executable, "-c", waiting],
            env=clean_environment({**fake.environment, "TMPDIR": str(tmp_path)}),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert process.stdout
            assert Path(process.stdout.readline().strip()).exists()
            process.send_signal(number)
            assert process.wait(30) == 128 + number
        finally:
            process.kill()
            process.communicate()
        assert [lease.ended_by for lease in fake.leases] == ["released"]
    assert list(tmp_path.iterdir()) == []


def crowded() -> dict[str, str]:
    """Variables with which a program can start, but not with a lease beside them."""
    size = 100_000
    used = sum(len(name) + len(value) + 10 for name, value in os.environ.items())
    room = os.sysconf("SC_ARG_MAX") - used - 20_000
    filled = {f"FILL_{n}": "x" * size for n in range(room // (size + 17))}
    return {**filled, "FILL_LAST": "x" * (room % (size + 17))}


def test_an_environment_that_is_almost_full_gets_a_file(tmp_path: Path) -> None:
    with FakeFarm([FakeUser("a@x.test", secrets={"token": "x1" * 50_000})]) as fake:
        finished = run_exec(fake, tmp_path, [sys.executable, "-c", SHOW], **crowded())
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["path"]


def test_a_lease_that_fits_nowhere_is_refused_before_the_command_begins(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with FakeFarm([FakeUser("a@x.test", "x1" * 70_000)]) as fake:
        finished = run_exec(fake, tmp_path, ["touch", str(begun)])
        assert [lease.ended_by for lease in fake.leases] == ["released"]
    assert finished.returncode == 1
    assert finished.stderr == (
        "botfarm: the environment and the arguments are too long to start a program with the users\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("GITHUB_ENV", "GITHUB_OUTPUT", "RUNNER_TEMP"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    (tmp_path / "runner_temp").mkdir()
    return tmp_path


def later_steps(step: Path) -> dict[str, str]:
    lines = iter((step / "github_env").read_text().splitlines())
    found = {}
    for line in lines:
        name, _, delimiter = line.partition("<<")
        found[name] = "\n".join(iter(lambda: next(lines), delimiter))
    return found


def test_later_steps_of_a_job_can_start_and_have_the_file(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOTFARM_USERS", "of an earlier lease")
    log = farm(user(1, secrets=SESSION)).run(*ACQUIRE, "--format", "github").out
    variables = later_steps(step)
    assert variables["BOTFARM_USERS"] == "", "a variable of the job cannot be removed"
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env={**os.environ, **variables}, capture_output=True, check=True
    ).stdout
    found: dict[str, Any] = json.loads(shown)
    assert json.loads(found["file"])[0]["secrets"] == SESSION
    assert found["mode"] == 0o600
    assert Path(found["path"]).parent == step / "runner_temp"
    assert log.splitlines()[-1].startswith("Leased u1@x.test for 15m")


def test_a_file_of_a_lease_that_is_given_back_is_removed(step: Path) -> None:
    (step / "github_output").mkdir()
    asked = farm(user(1, secrets=SESSION))
    asked.run(*ACQUIRE, "--format", "github", exit_code=1)
    assert asked.asked[-1] == f"POST /leases/{LEASE_ID}/release"
    assert list((step / "runner_temp").iterdir()) == []


def test_a_file_that_cannot_be_written_is_one_line(step: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TEMP", str(step / "nothing"))
    asked = farm(user(1, secrets=SESSION))
    (line,) = asked.run(*ACQUIRE, "--format", "github", exit_code=1).err.splitlines()
    assert line == f"botfarm: cannot write a file of users to {step}/nothing: No such file or directory"
    assert asked.asked[-1] == f"POST /leases/{LEASE_ID}/release"


@pytest.mark.parametrize("form", ["env", "dotenv"])
def test_a_format_without_a_file_refuses_what_does_not_fit(form: str) -> None:
    asked = farm(user(1, secrets=SESSION))
    refused = asked.run(*ACQUIRE, "--format", form, exit_code=1)
    (line,) = refused.err.splitlines()
    assert "longer than environment variables may be" in line
    assert "--json" in line
    assert refused.out == ""
    assert asked.asked[-1] == f"POST /leases/{LEASE_ID}/release"


@pytest.fixture
def _stack() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_STACK)
    yield
    resource.setrlimit(resource.RLIMIT_STACK, limits)


@pytest.mark.usefixtures("_stack")
@pytest.mark.parametrize("stack", [1_048_576, 8_388_608, 67_108_864, resource.RLIM_INFINITY])
def test_a_file_is_made_where_the_system_would_start_no_program(
    stack: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: 131_072)  # musl gives this value, whatever the limit is
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY and not 0 <= stack <= hard:
        pytest.skip("the stack is limited here")
    resource.setrlimit(resource.RLIMIT_STACK, (stack, hard))
    variables, beside = {USERS: "x" * 20_000}, {"V0": "y"}
    largest = beside
    while USERS in with_users_file(variables, tmp_path / "users", beside=beside, arguments=["true"]):
        largest = dict(beside)
        beside[f"V{len(beside)}"] = "y" * 10_000
    subprocess.run(["/bin/true"], env={**largest, **variables}, check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true"], env={**beside, **variables}, check=True)
