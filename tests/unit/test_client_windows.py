"""The client on Windows: in a process from which the signals and functions of POSIX are removed."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from botfarm_client.testing import FakeFarm, FakeUser
from support.processes import CHECKOUT, clean_environment


def run(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> str:
    finished = finished_run(script, *arguments, environment=environment, cwd=cwd)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def finished_run(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    started = start(script, *arguments, environment=environment, cwd=cwd)
    output, errors = started.communicate()
    finished = subprocess.CompletedProcess(started.args, started.returncode, output, errors)
    assert "Traceback" not in finished.stderr, finished.stderr
    return finished


def start(
    script: str, *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", f"import os, sys, support.as_on_windows\n{script}", *arguments],
        env={**clean_environment({**(environment or {})}), "PYTHONPATH": str(CHECKOUT / "tests")},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_every_module_can_be_imported() -> None:
    run("""
import botfarm_client, pkgutil
for module in pkgutil.walk_packages(botfarm_client.__path__, "botfarm_client."):
    __import__(module.name)
""")


MAIN = "from botfarm_client.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize("command", ["", "exec"])
def test_help_is_shown(command: str) -> None:
    assert "Usage: botfarm" in run(MAIN, *filter(None, [command]), "--help")


def test_a_command_runs_under_a_lease() -> None:
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    with FakeFarm([FakeUser("a@x.test", "pw-a")]) as farm:
        out = run(MAIN, "exec", "--", sys.executable, "-c", show, environment=farm.environment)
        assert [lease.ended_by for lease in farm.leases] == ["released"]
    assert json.loads(out)["BOTFARM_PASSWORD"] == "pw-a"


def test_a_command_is_found_by_the_endings_of_programs(tmp_path: Path) -> None:
    program(tmp_path / "npx.CMD", 'echo "$0 $1 as $BOTFARM_LOGIN"')
    with FakeFarm([FakeUser("a@x.test")]) as farm:
        path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        out = run(MAIN, "exec", "--", "npx", "test", environment={**farm.environment, **path})
    assert out == f"{tmp_path / 'npx.CMD'} test as a@x.test\n"


def test_a_command_that_loses_its_users_is_ended_with_its_children(tmp_path: Path) -> None:
    """As npx.cmd is, which starts Node.js and waits for it."""
    taskkill = tmp_path / "System32" / "taskkill.exe"
    taskkill.parent.mkdir()
    program(taskkill, f'echo "$@" >{tmp_path}/said; kill -9 $(cat {tmp_path}/child) $4')
    command = program(tmp_path / "npx.CMD", f"sleep 1000 & echo $! >{tmp_path}/child; echo started; wait")
    with FakeFarm([FakeUser("a@x.test")]) as farm:
        environment = {**farm.environment, "SYSTEMROOT": str(tmp_path)}
        started = start(MAIN, "exec", "--ttl", "2", "--", str(command), environment=environment)
        assert started.stdout
        assert started.stdout.readline() == "started\n"
        farm.force_release(farm.leases[0].id)
        output, errors = started.communicate(timeout=60)  # the child, too, has closed standard output
    assert (output, started.returncode) == ("", 75)
    assert f"{command} was stopped" in errors
    assert (tmp_path / "said").read_text().startswith("/T /F /PID ")


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_long_list_of_users_is_passed_in_a_file() -> None:
    show = "import os; print(len(open(os.environ['BOTFARM_USERS_FILE']).read()) > 32_767)"
    with FakeFarm([FakeUser("a@x.test", secrets={"state": "x" * 40_000})]) as farm:
        out = run(MAIN, "exec", "--", sys.executable, "-c", show, environment=farm.environment)
    assert out == "True\n"


@pytest.mark.parametrize("form", ["--json", "--format=env", "--format=dotenv"])
def test_a_lease_is_acquired_for_later_steps(form: str) -> None:
    with FakeFarm([FakeUser("a@x.test", "pw-a")]) as farm:
        assert "pw-a" in run(MAIN, "leases", "acquire", form, environment=farm.environment)


def test_threads_and_tasks_lease_users() -> None:
    script = """
import asyncio
from botfarm_client import AsyncBotfarm, Botfarm

with Botfarm() as farm, farm.lease(ttl=2) as lease:
    lease.renew()
    print(lease.user.login)

async def main():
    async with AsyncBotfarm() as farm, farm.lease() as lease:
        await lease.renew()
        print(lease.user.login)

asyncio.run(main())
"""
    with FakeFarm([FakeUser("a@x.test")]) as farm:
        assert run(script, environment=farm.environment) == "a@x.test\na@x.test\n"
        assert [lease.ended_by for lease in farm.leases] == ["released", "released"]


def test_the_pytest_plugin_gives_tests_and_classes_users(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(botfarm_user): assert botfarm_user.password == 'pw-a'\n"
        "class TestIt:\n"
        "    def test_it(self, botfarm_class_user): assert botfarm_class_user.password == 'pw-a'\n"
    )
    options = ("-p", "botfarm_client.pytest_plugin", "-p", "no:cacheprovider")
    with FakeFarm([FakeUser("a@x.test", "pw-a")]) as farm:
        environment = {**farm.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        main = "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
        assert "2 passed" in run(main, *options, environment=environment, cwd=tmp_path)


def test_masks_are_written_in_github_actions() -> None:
    with FakeFarm([FakeUser("a@x.test", "pw-a-secret")]) as farm:
        environment = {**farm.environment, "GITHUB_ACTIONS": "true"}
        finished = finished_run(MAIN, "exec", "--", sys.executable, "-c", "", environment=environment)
    assert "::add-mask::pw-a-secret" in finished.stderr


def test_a_holder_without_a_name_is_somebody() -> None:
    for_nobody = "\nfor name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'): os.environ.pop(name, None)\n"
    assert (
        run(for_nobody + "from botfarm_client.leasing.ci_variables import _person; print(_person())")
        == "somebody\n"
    )
