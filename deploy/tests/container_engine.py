"""A Docker for tests: the installed one with the registries' images, or our own with stand-ins for them."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stages import CHECKOUT, DEPLOY, TOOLS, run, skip, tool

STANDINS = DEPLOY / "tests/standins"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"


@dataclass(frozen=True)
class Engine:
    environment: Mapping[str, str]
    has_standins: bool

    def docker(self, *arguments: str, seconds: float = 60) -> str:
        return run(docker_program(), *arguments, environment=self.environment, seconds=seconds)

    @property
    def compose_command(self) -> list[str]:
        """For our files, from any folder."""
        files = [CHECKOUT / "docker-compose.yml", *([STANDINS / "compose.yml"] if self.has_standins else [])]
        chosen = (part for file in files for part in ("--file", str(file)))
        return [*compose_command(), "--project-directory", str(CHECKOUT), *chosen]


def docker_program() -> str:
    """Debian's own has BuildKit inside, other clients need a plugin for it."""
    return shutil.which("docker", path="/usr/bin") or tool("docker")


def compose_command() -> list[str]:
    if shutil.which("docker"):
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return ["docker", "compose"]
    return [tool("docker-compose")]


@contextmanager
def container_engine(folder: Path) -> Iterator[Engine]:
    if (
        shutil.which("docker")
        and not subprocess.run([docker_program(), "info"], capture_output=True, check=False).returncode
    ):
        yield Engine({}, has_standins=False)
        return
    if os.geteuid() != 0:
        skip("docker", "no engine is running, and only root can start one")
    for program in ("dockerd", "iptables", "mmdebstrap"):
        tool(program)
    with _engine_of_our_own(folder) as engine:
        _make_base(engine, folder)
        yield engine


@contextmanager
def _engine_of_our_own(folder: Path) -> Iterator[Engine]:
    address = f"unix://{folder / 'docker.sock'}"
    command = [
        *(tool("dockerd"), "--host", address, "--storage-driver", "overlay2"),
        *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
        *("--pidfile", str(folder / "docker.pid")),
    ]
    engine = Engine({"DOCKER_HOST": address, "DOCKER_BUILDKIT": "1"}, has_standins=True)
    log = folder / "dockerd.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            [docker_program(), "info"],
            env={**os.environ, **engine.environment},
            capture_output=True,
            check=False,
        ).returncode:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield engine
    finally:
        process.terminate()
        process.wait(60)
        for point in _mounts_below(folder):
            subprocess.run(["umount", "--lazy", point], check=False)


def _mounts_below(folder: Path) -> list[str]:
    """What dockerd leaves mounted, innermost first.

    These are the network's namespace, and dockerd's data folder where the root is a bind mount.
    """
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return sorted((point for point in points if Path(point).is_relative_to(folder)), reverse=True)


def _make_base(engine: Engine, folder: Path) -> None:
    """From Debian's packages, kept for the next time."""
    archive = TOOLS / "debian.tar"
    if not archive.exists():
        unfinished = folder / "debian.tar"
        run("mmdebstrap", "--variant=apt", f"--include={PACKAGES}", _codename(), str(unfinished), seconds=600)
        unfinished.rename(archive)
    engine.docker("import", str(archive), "botfarm-test-debian", seconds=120)
    context = folder / "base"
    shutil.copytree(STANDINS / "base", context)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", context / "certificates.crt")
    engine.docker("build", "--quiet", "--tag", "botfarm-test-base", str(context), seconds=120)


def _codename() -> str:
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    return release["VERSION_CODENAME"]
