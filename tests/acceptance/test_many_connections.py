"""Idle connections of strangers do not keep others out: real commands with few open files allowed."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from support.farm import KEYS, TOKEN
from support.postgres import temporary_folder
from support.processes import BOTFARM, Process, running

SILENT = 1_500


@pytest.fixture
def environment(database_url: str) -> Iterator[dict[str, str]]:
    with temporary_folder() as home:
        yield {
            "HOME": str(home),
            "BOTFARM_DATA_DIR": str(home / "farm"),
            "BOTFARM_DATABASE_URL": database_url,
            "BOTFARM_ENCRYPTION_KEYS": KEYS,
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
            "BOTFARM_WORKER_PORT": "0",
        }


@pytest.fixture(autouse=True)
def _files_of_the_test() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = SILENT + 500
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"this machine lets a process open {hard} files at most")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def limited(command: str, ulimit: str) -> list[str]:
    return ["sh", "-c", f'{ulimit}; exec "$@"', "sh", BOTFARM, command]


def hold_silent_connections(stack: ExitStack, url: str) -> list[socket.socket]:
    address = httpx.URL(url)
    return [
        stack.enter_context(socket.create_connection((address.host, address.port or 0), timeout=20))
        for _ in range(SILENT)
    ]


def is_answered(process: Process, url: str) -> bool:
    """Each request uses a new connection, like a new caller."""
    for _ in range(5):
        assert httpx.get(f"{url}/livez", timeout=10).status_code == 200, process.output
    return True


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_under_a_soft_limit_of_open_files_new_callers_are_served(
    environment: dict[str, str], command: str
) -> None:
    with (
        running(*limited(command, "ulimit -Sn 1024"), environment=environment) as process,
        ExitStack() as held,
    ):
        url = process.url()
        hold_silent_connections(held, url)
        assert is_answered(process, url)


def test_under_a_hard_limit_of_open_files_the_longest_idle_connection_gives_way(
    environment: dict[str, str],
) -> None:
    with (
        running(*limited("serve", "ulimit -n 400"), environment=environment) as api,
        ExitStack() as held,
    ):
        url = api.url()
        assert '"connections": 200, "max_waiters": 2000' in api.output
        first, *_ = hold_silent_connections(held, url)
        assert first.recv(1) == b""
        assert is_answered(api, url)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert httpx.get(f"{url}/api/v1/pools", headers=headers, timeout=10).status_code == 200
