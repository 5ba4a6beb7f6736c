"""A farm to measure: its own database, API processes, a worker, and a token made through the API."""

import asyncio
import re
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import UUID, uuid4

from benchmarks.client import connected, expect
from benchmarks.database import Postgres, release_what_is_left
from benchmarks.filling import add_users
from benchmarks.processes import BOTFARM, Process, clean_environment, free_port, running
from botfarm.crypto.key_ring import KeyRing, generate_key
from botfarm.settings import Settings

KEYS = generate_key("bench")
KEY_RING = KeyRing.parse(KEYS)
_ADMIN = secrets.token_urlsafe(24)
_GRANTED = re.compile(r'^botfarm_acquire_total\{[^}]*result="granted"[^}]*\} (\S+)$', re.MULTILINE)

_CHECK_OUTS = re.compile(r"^botfarm_db_pool_wait_seconds_count (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Api:
    port: int
    process: Process

    def pairs(self) -> int:
        """Leases granted since the process started, from its metrics."""
        return int(sum(float(value) for value in _GRANTED.findall(self._metrics())))

    def check_outs(self) -> float:
        """How often the process has taken a connection to the database, for a statement or a transaction."""
        return float(_CHECK_OUTS.findall(self._metrics())[0])

    def batch_size(self) -> tuple[float, float] | None:
        """Sum and count of the metric `botfarm_batch_size`. None for a build without the metric."""
        text = self._metrics()
        total, count = (
            sum(
                float(value)
                for value in re.findall(
                    rf"^botfarm_batch_size_{part}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE
                )
            )
            for part in ("sum", "count")
        )
        return (total, count) if count else None

    def _metrics(self) -> str:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/metrics", headers={"Authorization": f"Bearer {_ADMIN}"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:  # the plain service has no metrics
            return ""


@dataclass(slots=True)
class Farm:
    database_url: str
    apis: list[Api]
    token: str = ""
    projects: dict[str, UUID] = field(default_factory=dict)

    @property
    def ports(self) -> list[int]:
        return [api.port for api in self.apis]

    def add_pool(self, name: str, users: int) -> UUID:
        self.projects[name] = asyncio.run(self._create_project(name))
        add_users(self.database_url, KEY_RING, self.projects[name], users)
        return self.projects[name]

    def clear(self) -> None:
        release_what_is_left(self.database_url)

    async def _create_project(self, name: str) -> UUID:
        body = {"id": str(uuid4()), "name": name}
        async with connected(self.ports[0], _ADMIN) as admin:
            return UUID(expect(HTTPStatus.CREATED, await admin.request("POST", "/projects", body))["id"])

    async def make_token(self) -> str:
        body = {"name": "load", "role": "runner", "projects": ["*"], "envs": ["*"]}
        async with connected(self.ports[0], _ADMIN) as admin:
            return str(expect(HTTPStatus.CREATED, await admin.request("POST", "/tokens", body))["token"])


@contextmanager
def running_farm(
    postgres: Postgres, name: str, *, replicas: int = 2, program: str = BOTFARM, **settings: object
) -> Iterator[Farm]:
    """API processes and a worker on a new database. `settings` apply to all of them."""
    url = postgres.create_database(name)
    if program != BOTFARM:
        subprocess.run([program, "migrate"], env={**clean_environment(), **_environment(url, {})}, check=True)
    with (
        running_worker(url, program=program, **settings),
        running_apis(url, replicas=replicas, program=program, **settings) as farm,
    ):
        farm.token = asyncio.run(farm.make_token())
        yield farm


@contextmanager
def running_apis(
    database_url: str, *, replicas: int = 2, program: str = BOTFARM, **settings: object
) -> Iterator[Farm]:
    with ExitStack() as stack:
        apis = []
        for _ in range(replicas):
            port = free_port()
            environment = _environment(database_url, {"port": port, **settings})
            apis.append(Api(port, stack.enter_context(running([program, "serve"], environment))))
        for api in apis:
            api.process.wait_until_ready(f"http://127.0.0.1:{api.port}/readyz")
        yield Farm(database_url, apis)


@contextmanager
def running_worker(database_url: str, *, program: str = BOTFARM, **settings: object) -> Iterator[None]:
    environment = _environment(database_url, {"worker_port": free_port(), **settings})
    with running([program, "worker"], environment):
        yield


@contextmanager
def running_plain_service(database_url: str) -> Iterator[Farm]:
    """Two processes of benchmarks/plain_service.py on a migrated database, with uvicorn's own access log."""
    with ExitStack() as stack:
        apis = []
        for _ in range(2):
            port = free_port()
            arguments = ("-m", "uvicorn", "benchmarks.plain_service:app", "--port", str(port))
            environment = {"PLAIN_DATABASE_URL": database_url}
            apis.append(Api(port, stack.enter_context(running([sys.executable, *arguments], environment))))
        for api in apis:
            api.process.wait_until_ready(f"http://127.0.0.1:{api.port}/docs")
        yield Farm(database_url, apis, token="not-checked")


def has_setting(name: str) -> bool:
    """Whether this build has the setting `BOTFARM_<NAME>`. Rows that need a missing setting are skipped."""
    return name in Settings.model_fields


def _environment(database_url: str, settings: Mapping[str, object]) -> dict[str, str]:
    chosen = {
        "database_url": database_url,
        "encryption_keys": KEYS,
        "bootstrap_token": _ADMIN,
        **settings,
    }
    return {f"BOTFARM_{name.upper()}": str(value) for name, value in chosen.items()}
