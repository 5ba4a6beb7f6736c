"""PostgreSQL under Patroni: a leader, a synchronous standby and etcd, each with its own folder and ports."""

import os
import pwd
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from botfarm.process.embedded_postgres.account import runnable_folder, server_account
from botfarm.process.embedded_postgres.programs import find_server_binaries, run_program
from farm_processes import free_port
from stages import TOOLS, run, skip, tool
from support.postgres import temporary_folder
from support.processes import Process, running

PATIENCE = 60.0
PASSWORD = "of-these-tests"
# Seconds, each the least that Patroni takes: it raises smaller values, and loop_wait + 2 * retry_timeout may
# not exceed ttl. A dead leader is missed when its key in etcd expires: up to ttl after the last renewal. A
# leader renews its key every loop_wait.
TIMES = {"ttl": 20, "loop_wait": 1, "retry_timeout": 3}
# Not synchronous_mode_strict, because a strict leader whose only standby is gone takes no writes: neither of
# two machines could be spared. Otherwise the leader goes on alone, and Patroni promotes only a standby that
# has all commits.
SYNCHRONOUS = {"synchronous_mode": True, "synchronous_mode_strict": False}


@dataclass(frozen=True)
class Programs:
    account: str | None
    """Runs the programs where we are root, because PostgreSQL refuses to run as root."""
    python: Path
    postgres: Path

    def patroni(self, configuration: Path) -> list[str]:
        command = [str(self.python), "-m", "patroni", str(configuration)]
        if self.account is None:
            return command
        group = pwd.getpwnam(self.account).pw_gid
        return ["setpriv", f"--reuid={self.account}", f"--regid={group}", "--clear-groups", *command]


class Node:
    """One machine: Patroni and the PostgreSQL that it started."""

    def __init__(self, name: str, etcd: str, programs: Programs, folder: Path) -> None:
        self.name = name
        self.address, self.api = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.configuration = folder / f"{name}.yml"
        self._data = folder / name
        self._programs = programs
        self._patroni: Process | None = None
        self._frozen: list[int] = []
        self.configuration.write_text(yaml.safe_dump(self._settings(etcd)))

    def _settings(self, etcd: str) -> dict[str, object]:
        account = {"username": "botfarm", "password": PASSWORD}
        return {
            "scope": "farm",
            "name": self.name,
            "etcd3": {"host": etcd},
            "restapi": {"listen": self.api, "connect_address": self.api},
            "watchdog": {"mode": "off"},
            "bootstrap": {
                "dcs": {**TIMES, **SYNCHRONOUS, "postgresql": {"use_pg_rewind": True}},
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": self.address,
                "connect_address": self.address,
                "data_dir": str(self._data),
                "bin_dir": str(self._programs.postgres),
                "pgpass": f"{self._data}.pgpass",
                "authentication": {"superuser": account, "replication": account},
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": [f"host {what} all 127.0.0.1/32 scram-sha-256" for what in ("all", "replication")],
            },
        }

    def start(self) -> None:
        """Also after `die`."""
        self._patroni = Process(self._programs.patroni(self.configuration), {}, Path("/"))

    def freeze(self) -> None:
        """Like a machine that hangs or is cut off: it answers nothing, and its connections do not end."""
        assert self._patroni is not None
        # The parents first, so that no child is started after the children are listed.
        self._stop(self._patroni.pid, self._postmaster())
        self._stop(*self._servers())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def freeze_sending(self) -> None:
        """As if its line to the standby were cut."""
        titles = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in self._servers()}
        self._stop(*(pid for pid, title in titles.items() if b"walsender" in title))

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self._frozen = []

    def die(self) -> None:
        assert self._patroni is not None
        self.freeze()
        self._signal(signal.SIGKILL)
        self._frozen = []
        self._patroni.end()
        self._patroni = None

    def end(self) -> None:
        """Ends the node at once, because Patroni itself would wait for the other node."""
        if self._patroni is None:
            return
        self.thaw()
        self._patroni.kill()
        self._patroni.end()
        self._patroni = None
        pg_ctl, account = self._programs.postgres / "pg_ctl", self._programs.account
        run_program(pg_ctl, "stop", "-D", self._data, "-m", "immediate", account=account)

    @property
    def output(self) -> str:
        return self._patroni.output if self._patroni else ""

    def _postmaster(self) -> int:
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def _servers(self) -> list[int]:
        """The children of the postmaster."""
        first = self._postmaster()
        return [int(pid) for pid in Path(f"/proc/{first}/task/{first}/children").read_text().split()]

    def _stop(self, *pids: int) -> None:
        self._frozen += pids
        self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for pid in self._frozen:
            with suppress(ProcessLookupError):  # a child may end by itself
                os.kill(pid, number)


class PatroniCluster:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    @property
    def url(self) -> str:
        """Names both nodes, as ops do; libpq takes the one that accepts writes."""
        hosts = ",".join(node.address for node in self._nodes)
        return f"postgresql://botfarm:{PASSWORD}@{hosts}/postgres?target_session_attrs=read-write"

    def until_whole(self) -> tuple[Node, Node]:
        """The leader and its synchronous standby, as soon as there are both."""
        deadline = time.monotonic() + PATIENCE
        while True:
            roles = self._roles()
            nodes = {roles.get(node.name): node for node in self._nodes}
            if nodes.keys() == {"leader", "sync_standby"}:
                return nodes["leader"], nodes["sync_standby"]
            assert time.monotonic() < deadline, f"{roles}\n{self.output}"
            time.sleep(0.1)

    def until_led_by(self, node: Node) -> None:
        deadline = time.monotonic() + PATIENCE
        while self._roles().get(node.name) != "leader":
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def switch_over(self, leader: Node, candidate: Node) -> None:
        patronictl = str(TOOLS / "patroni/bin/patronictl")
        names = ("--leader", leader.name, "--candidate", candidate.name)
        run(patronictl, "-c", str(leader.configuration), "switchover", *names, "--force", "farm")

    @property
    def output(self) -> str:
        return "\n".join(node.output for node in self._nodes)

    def _roles(self) -> dict[str, str]:
        for node in self._nodes:
            with suppress(httpx.TransportError):
                members = httpx.get(f"http://{node.api}/cluster", timeout=1).json()["members"]
                return {member["name"]: member["role"] for member in members}
        return {}


@contextmanager
def patroni_cluster() -> Iterator[PatroniCluster]:
    with temporary_folder() as folder, ExitStack() as stack:
        programs = _programs(folder)
        shutil.chown(folder, programs.account or os.geteuid())
        etcd = stack.enter_context(_etcd(folder))
        nodes = [Node(name, etcd, programs, folder) for name in ("first", "second")]
        cluster = PatroniCluster(nodes)
        for node in nodes:
            stack.callback(node.end)
            node.start()
            cluster.until_led_by(nodes[0])
        cluster.until_whole()
        yield cluster


@contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    """The address for clients."""
    clients, peers = (f"127.0.0.1:{free_port()}" for _ in range(2))
    options = {
        "data-dir": folder / "etcd",
        "listen-client-urls": f"http://{clients}",
        "advertise-client-urls": f"http://{clients}",
        "listen-peer-urls": f"http://{peers}",
        "initial-advertise-peer-urls": f"http://{peers}",
        "initial-cluster": f"default=http://{peers}",
    }
    command = [tool("etcd"), *(f"--{name}={value}" for name, value in options.items())]
    with running(*command, environment={}) as process:
        process.wait_for("ready to serve client requests")
        yield clients


def _programs(folder: Path) -> Programs:
    installed = TOOLS / "patroni"
    if not (installed / "bin/patronictl").exists():
        skip("patroni", "it is not in .venv/ops")
    if not (binaries := find_server_binaries()):
        skip("patroni", "there is no PostgreSQL here")
    account = server_account(folder)
    if not _has_patroni(installed / "bin/python", account):  # the checkout may be closed to it
        installed = shutil.copytree(installed, folder / "patroni", symlinks=True)
        run_program("chmod", "-R", "a+rX", installed)
    python = installed / "bin/python"
    if not _has_patroni(python, account):
        skip("patroni", f"{python.resolve()} does not run for {account}")
    return Programs(account, python, runnable_folder(binaries[0], folder, account))


def _has_patroni(python: Path, account: str | None) -> bool:
    try:
        return run_program(python, "-c", "import patroni", account=account).returncode == 0
    except OSError:
        return False
