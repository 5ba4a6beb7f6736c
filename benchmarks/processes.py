"""Processes of the run, started with a clean environment and ended by their own pid."""

import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from benchmarks.plan import CHECKOUT

BOTFARM = str(Path(sys.executable).with_name("botfarm"))


def program_of(checkout: Path) -> str:
    """The command `botfarm` of a checkout, which has been set up by `make`."""
    return BOTFARM if checkout == CHECKOUT else str(checkout / ".venv/bin/botfarm")


class Process:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # Not under /tmp, because it may be in memory. The log of a service goes to a disk.
        self._output = tempfile.NamedTemporaryFile("w+", prefix="botfarm-bench-", dir="/var/tmp")  # noqa: SIM115  end() closes
        self._process = subprocess.Popen(
            command,
            env={**clean_environment(), **environment},
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid

    def wait_until_ready(self, url: str, *, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not _answers(url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer:\n{Path(self._output.name).read_text()[-4000:]}")
            time.sleep(0.05)

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._output.close()


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Process]:
    process = Process(command, environment)
    try:
        yield process
    finally:
        process.end()


def clean_environment() -> dict[str, str]:
    """This environment without the variables that configure a server: rows set all that matters."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("BOTFARM_", "PG"))}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def allow_many_files() -> None:
    """Raises the limit of open files, which servers inherit: each waiter is a socket here and in a server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False
