"""The farm as ops run it: migrated, with demo data, an API with its own metrics port, and two workers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from stages import run
from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import BOTFARM, Process, running


@dataclass(frozen=True)
class FarmProcesses:
    url: str
    api_metrics: str
    """host:port, as the workers'."""
    worker_metrics: tuple[str, str]
    api: Process

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextmanager
def farm_processes(database_url: str, **settings: str) -> Iterator[FarmProcesses]:
    metrics_port = free_port()
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_WORKER_PORT": "0",
        "BOTFARM_METRICS_PORT": str(metrics_port),
        "BOTFARM_REAP_INTERVAL": "1",
        "BOTFARM_GAUGES_INTERVAL": "1",
        **settings,
    }
    for command in ("migrate", "demo"):
        run(BOTFARM, command, environment=environment)
    with ExitStack() as stack:
        api, *workers = (
            stack.enter_context(running(BOTFARM, command, environment=environment))
            for command in ("serve", "worker", "worker")
        )
        url = api.url()
        probes = [worker.url().removeprefix("http://") for worker in workers]
        api.wait_for('"event": "ready"')
        yield FarmProcesses(url, f"127.0.0.1:{metrics_port}", (probes[0], probes[1]), api)
