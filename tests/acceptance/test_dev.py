"""`botfarm dev` and `make run` as a newcomer starts them."""

import asyncio
import json
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from botfarm_client.cli import app
from support.farm import PASSWORD
from support.postgres import temporary_folder
from support.processes import (
    BOTFARM,
    Process,
    assert_dies,
    clean_environment,
    is_alive,
    run_botfarm,
    running,
    running_botfarm,
)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with temporary_folder() as home:
        yield {"HOME": str(home), "BOTFARM_DATA_DIR": str(home / "farm"), "BOTFARM_PORT": "0"}


def postgres_pid(environment: dict[str, str]) -> int:
    return int(
        (Path(environment["BOTFARM_DATA_DIR"]) / "postgres/postmaster.pid").read_text().splitlines()[0]
    )


def lease_by_the_printed_line(dev: Process) -> dict[str, object]:
    """Runs the curl line as it stands on the terminal."""
    line = dev.wait_for(r"\n  (curl .*)\n")[1]
    answer = subprocess.run(shlex.split(line), capture_output=True, text=True, check=True)
    return dict(httpx.Response(200, text=answer.stdout).json())


def processor_seconds(pid: int) -> float:
    """Of all threads of the process, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sign_in(dev: Process, password: str) -> None:
    """As a browser does over plain http."""
    url = dev.wait_for(r"botfarm is running: (\S+)")[1]
    answer = httpx.post(f"{url}/api/v1/auth/login", json={"name": "admin", "password": password})
    assert answer.status_code == 200, answer.text
    assert answer.headers["set-cookie"].startswith(f"botfarm-{httpx.URL(url).port}=")


def database_password(environment: dict[str, str]) -> str:
    return (Path(environment["BOTFARM_DATA_DIR"]) / "database-password").read_text().strip()


async def may_do_anything(url: str) -> bool:
    """Whether the role is a superuser; all of the farm's connections must be of this role."""
    sql = await asyncpg.connect(url)
    try:
        others = await sql.fetch(
            """SELECT usename = current_user AS is_ours, application_name FROM pg_stat_activity
               WHERE application_name LIKE 'botfarm%'"""
        )
        assert others
        assert all(each["is_ours"] for each in others), others
        return bool(await sql.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
    finally:
        await sql.close()


def test_one_command_runs_a_farm_and_ctrl_c_ends_all_of_it(environment: dict[str, str]) -> None:
    with running("make", "run", environment=environment) as dev:
        lease = lease_by_the_printed_line(dev)
        (user,) = lease["users"]  # type: ignore[misc]
        assert user["login"].endswith("@stage.shop.test")
        assert len(user["password"]) >= 8
        server = postgres_pid(environment)
        dev.interrupt()
        dev.wait()
        assert "botfarm has stopped." in dev.output
        assert "Traceback" not in dev.output
        assert_dies(server)


def test_a_second_start_finds_the_data_and_takes_over_a_server_that_was_left(
    environment: dict[str, str],
) -> None:
    with running_botfarm("dev", environment=environment) as first:
        lease = lease_by_the_printed_line(first)
        password = first.wait_for(r"sign in +admin, password (\S+)")[1]
        sign_in(first, password)
        server = postgres_pid(environment)
        first.kill()
    assert is_alive(server)
    with running_botfarm("dev", environment=environment) as second:
        url = second.wait_for(r"botfarm is running: (\S+)")[1]
        token = second.wait_for(r"token +(\S+)")[1]
        client = httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"})
        with client:
            again = client.get(f"/leases/{lease['id']}").json()
            assert again["users"] == lease["users"], "the password can still be read"
            assert len(client.get("/users", params={"limit": 1000}).json()["items"]) == 60
        assert password not in second.output
        sign_in(second, password)
        change = second.wait_for(r"sign in +admin; a new password: (.+)")[1]
        assert database_password(environment) not in second.output
        url_file = Path(environment["BOTFARM_DATA_DIR"]) / "database-url"
        assert not asyncio.run(may_do_anything(url_file.read_text().strip()))
        shell = ["/bin/sh", "-c", change]
        subprocess.run(shell, input="another password", text=True, check=True, env=clean_environment({}))
        sign_in(second, "another password")
        second.terminate()
        assert second.wait() == 0
    assert_dies(server)
    folder = Path(environment["BOTFARM_DATA_DIR"])
    for secret in ("keys", "token", "database-url", "owner-url", "database-app-password"):
        assert (folder / secret).stat().st_mode & 0o777 == 0o600
    assert not [path for path in folder.iterdir() if path.is_file() and password in path.read_text()]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor time from /proc")
def test_a_second_start_takes_less_than_four_seconds(environment: dict[str, str]) -> None:
    """By its processor time, because a busy machine makes it wait. It waits a tenth of a second for PostgreSQL."""
    with running_botfarm("dev", environment=environment) as first:
        first.wait_for("botfarm is running")
        first.terminate()
        assert first.wait() == 0
    with running(BOTFARM, "dev", environment=environment) as second:
        second.wait_for("botfarm is running")
        assert processor_seconds(second.pid) < 4


def test_a_database_with_operators_gets_no_other(environment: dict[str, str], database_url: str) -> None:
    environment["BOTFARM_DATABASE_URL"] = database_url
    add = ("operators", "add", "ann", "--role", "admin")
    run_botfarm(*add, environment=environment, stdin=PASSWORD).check_returncode()
    with running_botfarm("dev", environment=environment) as dev:
        assert dev.wait_for(r"sign in +(.+)")[1] == "ann"
        shown = run_botfarm("operators", "list", "--json", environment=environment)
        assert [each["name"] for each in json.loads(shown.stdout)["items"]] == ["ann"]


def assert_one_clear_line(finished: subprocess.CompletedProcess[str], *words: str) -> None:
    assert finished.returncode not in {0, -9}
    (line,) = finished.stderr.strip().splitlines()
    assert line.startswith("botfarm: ")
    for word in words:
        assert word in line


def test_a_taken_port_is_one_clear_line(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        finished = run_botfarm("dev", environment={**environment, "BOTFARM_PORT": port})
    assert_one_clear_line(finished, port, "BOTFARM_PORT")


def test_a_second_farm_in_the_same_folder_is_one_clear_line(environment: dict[str, str]) -> None:
    with running_botfarm("dev", environment=environment) as first:
        first.wait_for("botfarm is running")
        assert_one_clear_line(run_botfarm("dev", environment=environment), str(first.pid), "BOTFARM_DATA_DIR")


def test_data_of_another_postgresql_is_one_clear_line(environment: dict[str, str]) -> None:
    cluster = Path(environment["BOTFARM_DATA_DIR"]) / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    cluster.parent.chmod(0o711)
    assert_one_clear_line(run_botfarm("dev", environment=environment), "PostgreSQL 9")


def test_a_folder_that_cannot_be_reached_is_one_clear_line(environment: dict[str, str]) -> None:
    closed = Path(environment["HOME"]) / "closed"
    closed.mkdir(mode=0o700 if os.geteuid() == 0 else 0o500)
    finished = run_botfarm("dev", environment={**environment, "BOTFARM_DATA_DIR": str(closed / "farm")})
    assert_one_clear_line(finished, str(closed), "BOTFARM_DATA_DIR")


def test_settings_that_cannot_work_are_one_line_each_without_their_values(
    environment: dict[str, str],
) -> None:
    bad = {
        "BOTFARM_BOOTSTRAP_TOKEN": "too short",
        "BOTFARM_MAX_WAIT": "for ever",
        "BOTFARM_ENCRYPTION_KEYS": "k1:abc",
    }
    finished = run_botfarm("dev", environment={**environment, **bad})
    assert finished.returncode == 1
    assert "BOTFARM_BOOTSTRAP_TOKEN: " in finished.stderr
    assert "BOTFARM_MAX_WAIT: " in finished.stderr
    assert not [value for value in bad.values() if value in finished.stderr]


@pytest.mark.parametrize(
    "command",
    ["dev", "serve", "worker", "migrate", "demo", "keys", "operators", "config", "after-restore"],
)
def test_help_of_every_command_reads(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], prog_name="botfarm")
    assert shown.exit_code == 0
    assert f"botfarm {command}" in shown.stdout


@pytest.mark.parametrize("command", ["serve", "worker", "migrate", "demo", "operators list", "after-restore"])
def test_a_command_names_the_settings_that_it_lacks(command: str) -> None:
    finished = run_botfarm(*command.split(), environment={})
    assert finished.returncode == 1
    (line,) = finished.stderr.strip().splitlines()
    assert "BOTFARM_DATABASE_URL" in line or "BOTFARM_ENCRYPTION_KEYS" in line


def test_a_server_without_keys_says_how_to_make_one(database_url: str) -> None:
    only_database = {"BOTFARM_DATABASE_URL": database_url, "BOTFARM_PORT": "0"}
    finished = run_botfarm("serve", environment=only_database)
    assert finished.returncode == 1
    assert "botfarm keys generate" in finished.stderr
