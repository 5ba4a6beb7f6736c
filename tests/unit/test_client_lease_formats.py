"""`botfarm leases acquire --format`, read by a shell and by a GitHub Actions job."""

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from botfarm_client.testing import FakeFarm as Farm
from support.fake_farm import FakeFarm, problem
from support.fake_lease import ACQUIRE, LEASE_ID, farm, lease, user
from support.processes import BOTFARM

NASTY = """a'b"c $(touch owned) `id` \\ %0A\nBOTFARM_LOGIN=forged\n\t€ '; exit 1 #"""
NAMES = ("BOTFARM_LEASE_ID", "BOTFARM_USER_ID", "BOTFARM_LOGIN", "BOTFARM_PASSWORD", "BOTFARM_USERS")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_reads_exactly_what_the_farm_gave(shell: str, tmp_path: Path) -> None:
    first = user(1, login="o'hara+1@x.test", password=NASTY, secrets={"pin": "1234"}, totp={"code": "123456"})
    lines = farm(first, user(2)).run(*ACQUIRE, "--format", "env").out
    program = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)"
    found = json.loads(
        subprocess.run(
            [shell, "-eu", "-c", f'eval "$1"; exec python3 -c "{program}"', shell, lines],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        ).stdout
    )
    assert {name for name in found if name.startswith("BOTFARM_")} >= set(NAMES)
    assert (found["BOTFARM_LEASE_ID"], found["BOTFARM_USER_ID"]) == (LEASE_ID, first["id"])
    assert (found["BOTFARM_LOGIN"], found["BOTFARM_PASSWORD"]) == ("o'hara+1@x.test", NASTY)
    both = json.loads(found["BOTFARM_USERS"])
    assert [each["login"] for each in both] == ["o'hara+1@x.test", "u2@x.test"]
    assert both[0]["password"] == NASTY
    assert [each["secrets"] for each in both] == [{"pin": "1234"}, {}]
    assert both[1]["labels"] == {"team": "red"}
    assert "totp" not in both[0], "it is stale before it is used"
    assert not list(tmp_path.iterdir()), "nothing of a password is run"


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the files of a step. Standard output is the log of the job."""
    monkeypatch.setenv("GITHUB_ENV", str(tmp_path / "env"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "env").write_text("EARLIER=yes\n")
    return tmp_path


def assigned(path: Path) -> dict[str, str]:
    """Variables as the runner reads them: `NAME=value`, or `NAME<<delimiter` and lines up to it."""
    found, lines = {}, iter(path.read_text(encoding="utf-8").split("\n")[:-1])
    for line in lines:
        name, is_long, delimiter = line.partition("<<")
        if not is_long:
            name, _, found[name] = line.partition("=")
            continue
        value = []
        while (following := next(lines)) != delimiter:
            value.append(following)
        found[name] = "\n".join(value)
    return found


def masks(log: str) -> list[str]:
    written = [
        line.removeprefix("::add-mask::") for line in log.splitlines() if line.startswith("::add-mask::")
    ]
    return [line.replace("%0A", "\n").replace("%0D", "\r").replace("%25", "%") for line in written]


def test_later_steps_of_the_job_get_the_credentials(step: Path) -> None:
    first = user(1, password=NASTY, secrets={"pin": "1234"})
    log = farm(first, user(2)).run(*ACQUIRE, "--format", "github").out
    found = assigned(step / "env")
    assert set(found) == {"EARLIER", *NAMES}
    assert found["BOTFARM_PASSWORD"] == NASTY
    assert found["BOTFARM_LOGIN"] == "u1@x.test"
    assert json.loads(found["BOTFARM_USERS"])[1]["password"] == "hunter2"
    assert assigned(step / "output") == {
        "lease_id": LEASE_ID,
        "user_id": first["id"],
        "login": "u1@x.test",
    }
    assert log.splitlines()[-1] == f"Leased u1@x.test, u2@x.test for 15m: lease {LEASE_ID}"


def test_whatever_a_later_step_prints_of_the_credentials_is_masked(step: Path) -> None:
    secrets = {"pin": 4711, "on": True, "cookies": [{"value": "c00kie\nsecond line"}], "short": "no"}
    log = farm(user(1, password=NASTY, secrets=secrets), user(2, password="x")).run(
        *ACQUIRE, "--format", "github"
    )
    masked = masks(log.out)
    shown = "\n".join(assigned(step / "env").values())
    for mask in masked:  # as the runner does, in any order
        shown = shown.replace(mask, "***")
    for part in ("a'b", "forged", "exit 1", "4711", "c00kie", "second line"):
        assert part not in shown
    assert {"hunter2", "no", "true", "x"}.isdisjoint(masked)
    before, _, _ = log.out.partition("Leased ")
    assert all(line.startswith("::add-mask::") for line in before.splitlines())
    assert all("\n" not in mask for mask in masked), "the runner knows only lines"


def test_outside_of_github_actions_no_user_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ENV", raising=False)
    asked = farm(user(1))
    assert "--format env" in asked.run(*ACQUIRE, "--format", "github", exit_code=2).err
    assert not asked.asked


def test_a_lease_that_cannot_be_handed_on_is_released(step: Path) -> None:
    (step / "output").mkdir()
    asked = farm(user(1))
    refused = asked.run(*ACQUIRE, "--format", "github", exit_code=1)
    assert refused.err.splitlines() == ["botfarm: cannot write to the file of GITHUB_OUTPUT: Is a directory"]
    assert asked.asked[-1] == f"POST /leases/{LEASE_ID}/release"
    again = farm(user(1))
    again.run(*ACQUIRE, "--format", "github", "--idempotency-key", "job-7", exit_code=1)
    assert again.asked == ["POST /leases"], "the same command gets it"


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit(143), BrokenPipeError], ids=str)
def test_a_lease_that_nobody_has_read_is_released(
    monkeypatch: pytest.MonkeyPatch, end: BaseException | type[BaseException]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise end

    monkeypatch.setattr("botfarm_client.commands.leases.acquire.print_lease", fail)
    asked = farm(user(1))
    with suppress(BrokenPipeError, AssertionError):  # another test checks how it ends
        asked.run(*ACQUIRE)
    assert asked.asked == ["POST /leases", f"POST /leases/{LEASE_ID}/release"]
    asked = farm(user(1))
    with suppress(BrokenPipeError, AssertionError):
        asked.run(*ACQUIRE, "--idempotency-key", "job-7")
    assert asked.asked == ["POST /leases"], "the same command gets it"


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit(143)], ids=str)
def test_an_acquire_interrupted_before_its_answer_releases_its_lease(
    monkeypatch: pytest.MonkeyPatch, end: BaseException | type[BaseException]
) -> None:
    answer = FakeFarm._handle

    def interrupted(self: FakeFarm, request: httpx.Request) -> httpx.Response:
        answered = answer(self, request)
        if len(self.requests) == 1:
            raise end
        return answered

    monkeypatch.setattr(FakeFarm, "_handle", interrupted)
    asked = farm(user(1))
    with suppress(AssertionError):
        asked.run(*ACQUIRE)
    assert asked.asked == ["POST /leases", "POST /leases", f"POST /leases/{LEASE_ID}/release"]
    first, again, _ = asked.requests
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]
    asked = farm(user(1))
    with suppress(AssertionError):
        asked.run(*ACQUIRE, "--idempotency-key", "job-7")
    assert asked.asked == ["POST /leases"], "the same command gets it"


def test_an_acquire_that_is_hung_up_takes_no_user(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with Farm() as fake, (tmp_path / "err").open("wb") as err:
        ended = subprocess.run(
            [BOTFARM, "leases", "acquire"],
            env={**os.environ, **fake.environment},
            stdout=writing,
            stderr=err,
            check=False,
        )
        assert [lease.ended_by for lease in fake.leases] == ["released"]
    os.close(writing)
    assert ended.returncode == 1


def test_json_is_printed_as_the_api_answers() -> None:
    whole = lease(user(1, totp={"code": "123456", "expires_in": 17}))
    for form in (("--json",), ("--format", "json"), ("--json", "--format", "json")):
        assert FakeFarm({"POST /leases": whole}).run(*ACQUIRE, *form).json == whole
    assert "--json" in farm(user(1)).run(*ACQUIRE, "--json", "--format", "env", exit_code=2).err


def test_a_ttl_that_the_project_shortens_is_announced() -> None:
    assert "15m of the 2h" in farm(user(1)).run(*ACQUIRE, "--format", "env", "--ttl", "2h").err
    assert not farm(user(1)).run(*ACQUIRE, "--format", "env", "--ttl", "15m").err


def test_the_pool_may_come_from_the_variables_that_the_sdk_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTFARM_PROJECT", "web")
    monkeypatch.setenv("BOTFARM_ENV", "preprod")
    asked = farm(user(1))
    asked.run("leases", "acquire")
    body = asked.body_of("POST /leases")
    assert (body["project"], body["env"]) == ("web", "preprod")


def test_a_job_says_who_it_is_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("GITHUB_", "GITLAB_", "BUILDKITE", "TEAMCITY_", "JENKINS_")):
            monkeypatch.delenv(name)
    for name, value in {
        "GITLAB_CI": "true",
        "CI_PROJECT_PATH": "acme/shop",
        "CI_JOB_URL": "https://git.test/1",
    }.items():
        monkeypatch.setenv(name, value)

    def body(*options: str) -> Any:
        asked = farm(user(1))
        asked.run(*ACQUIRE, *options)
        return asked.body_of("POST /leases")

    job = body("--metadata", "shard=2")
    assert job["owner"] == "gitlab acme/shop"
    assert job["metadata"] == {
        "ci": "gitlab",
        "job_url": "https://git.test/1",
        "pipeline": "acme/shop",
        "shard": "2",
    }
    assert body("--owner", "ann")["owner"] == "ann"
    keyed = body("--idempotency-key", "nightly")
    assert (keyed["owner"], keyed["metadata"]) == (None, {}), "another job may repeat it under the same key"


def test_an_unknown_format_takes_no_user() -> None:
    asked = FakeFarm({"POST /leases": problem(409, "pool-exhausted")})
    asked.run(*ACQUIRE, "--format", "yaml", exit_code=2)
    assert not asked.asked
