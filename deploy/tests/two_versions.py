"""Processes of this version and of the next one on one database, started and stopped one by one."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import asyncpg
import httpx

from next_version import Version
from stages import run
from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import Process, running

HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PATIENCE = 60.0


@dataclass
class Replica:
    process: Process
    client: httpx.Client

    @cached_property
    def url(self) -> str:
        """Of the API, or of a worker's probes."""
        return self.process.wait_for(r'"(?:url|probes)": "([^"]+?)/?"')[1]

    def readiness(self) -> tuple[int, str]:
        answer = self.client.get(f"{self.url}/readyz")
        return answer.status_code, answer.text

    def get(self, path: str) -> dict[str, Any]:
        return _expect_good(self.client.get(f"{self.url}/api/v1{path}"))

    def post(self, path: str, body: dict[str, object], **headers: str) -> dict[str, Any]:
        return _expect_good(self.client.post(f"{self.url}/api/v1{path}", json=body, headers=headers))

    def until_ready(self) -> None:
        self.process.wait_for('"event": "ready"')

    def stop(self) -> None:
        """As an orchestrator does; it has half a minute."""
        self.process.terminate()
        assert self.process.wait(seconds=30) == 0, self.process.output
        assert "Traceback" not in self.process.output


class TwoVersions:
    def __init__(self, stack: ExitStack, database_url: str) -> None:
        self._stack = stack
        self._client = stack.enter_context(httpx.Client(headers=HEADERS, timeout=PATIENCE))
        self._database_url = database_url
        self._environment = {
            **two_roles(database_url),
            "BOTFARM_ENCRYPTION_KEYS": KEYS,
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
            "BOTFARM_WORKER_PORT": "0",
            "BOTFARM_REAP_INTERVAL": "1",
        }

    def run(self, version: Version, command: str) -> str:
        return run(version.command, command, environment={**self._environment, **version.environment})

    def begin(self, version: Version, command: str) -> Process:
        environment = {**self._environment, **version.environment}
        return self._stack.enter_context(running(version.command, command, environment=environment))

    def start(self, version: Version, command: str) -> Replica:
        return Replica(self.begin(version, command), self._client)

    def ask(self, query: str, *values: object) -> Any:
        return asyncio.run(_ask(self._database_url, query, values))

    @contextmanager
    def long_transaction(self, statement: str) -> Iterator[None]:
        """Somebody at a terminal, or a backup."""
        with asyncio.Runner() as loop:
            sql = loop.run(asyncpg.connect(self._database_url))
            try:
                loop.run(sql.execute(f"BEGIN; {statement}"))
                yield
            finally:
                loop.run(sql.close())


def _expect_good(answer: httpx.Response) -> dict[str, Any]:
    assert answer.is_success, answer.text
    return dict(answer.json())


async def _ask(url: str, query: str, values: tuple[object, ...]) -> Any:
    sql = await asyncpg.connect(url)
    try:
        return await sql.fetchval(query, *values)
    finally:
        await sql.close()
