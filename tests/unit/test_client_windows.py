"""The client on Windows: in a process from which the signals and functions of POSIX are removed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from botfarm_client.testing import FakeFarm, FakeUser
from support.processes import clean_environment

# Other libraries are imported first, because they would choose their code for POSIX or Windows themselves.
AS_ON_WINDOWS = """
import asyncio, importlib.metadata, os, pkgutil, signal, subprocess, sys, tempfile
import httpx, pytest, rich.console, typer, typer.testing

SIGNALS = (
    "SIGHUP SIGQUIT SIGTSTP SIGCONT SIGSTOP SIGCHLD SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGKILL SIGWINCH"
).split()
FUNCTIONS = (
    "fork forkpty killpg getpgrp getpgid getsid setsid setpgid tcgetpgrp tcsetpgrp O_NOCTTY getuid geteuid "
    "getgid register_at_fork sysconf uname environb chown fchown mkfifo setuid posix_spawn"
).split()
for name in SIGNALS:
    delattr(signal, name)
for name in FUNCTIONS:
    delattr(os, name)
for name in ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
importlib.metadata.entry_points = lambda **_: ()  # the server, which needs POSIX, is not installed there
assert not [name for name in sys.modules if name.startswith("botfarm_client")]
"""


def run(
    script: str, *arguments: str, environment: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    finished = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS + script, *arguments],
        env=clean_environment(environment or {}),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout


def test_every_module_can_be_imported() -> None:
    run("""
import botfarm_client
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
        out = run(MAIN, "exec", "--", sys.executable, "-c", show, environment=dict(farm.environment))
        assert [lease.ended_by for lease in farm.leases] == ["released"]
    assert json.loads(out)["BOTFARM_PASSWORD"] == "pw-a"


def test_a_command_is_stopped_when_its_lease_is_lost() -> None:
    run("""
from botfarm_client.commands.exec.programs import end_programs, start_program, wait_for
program = "import time; print('ready', flush=True); time.sleep(1000)"
child = start_program([sys.executable, "-c", program], os.environ)
end_programs("BOTFARM_LEASE_ID=none-has-it", child)
assert wait_for(child) != 0
""")


def test_the_pytest_plugin_gives_each_test_a_user(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(botfarm_user): assert botfarm_user.password == 'pw-a'")
    options = ("-p", "botfarm_client.pytest_plugin", "-p", "no:cacheprovider")
    with FakeFarm([FakeUser("a@x.test", "pw-a")]) as farm:
        environment = {**farm.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        out = run("sys.exit(pytest.main(sys.argv[1:]))", *options, environment=environment, cwd=tmp_path)
    assert "1 passed" in out


def test_a_holder_without_a_name_is_somebody() -> None:
    for_nobody = "\nfor name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'): os.environ.pop(name, None)\n"
    assert (
        run(for_nobody + "from botfarm_client.leasing.ci_variables import _person; print(_person())")
        == "somebody\n"
    )
