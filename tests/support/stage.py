"""A real farm process with a project of one's own, for clients that hold leases while things go wrong."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from botfarm_client import AsyncBotfarm, Botfarm
from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import BOTFARM, Process, running

_numbers = count(1)


def serve_environment(database_url: str, *, port: int) -> dict[str, str]:
    return {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": str(port),
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(database_url: str, *, port: int = 0) -> Iterator[tuple[Process, str]]:
    """A farm that takes requests, and its URL."""
    with running(BOTFARM, "serve", environment=serve_environment(database_url, port=port)) as process:
        yield process, process.url()


@dataclass
class Stage:
    """A project with users, on a farm that others may use too."""

    url: str
    api: httpx.Client
    project: str = field(default_factory=lambda: f"stage-{next(_numbers)}")
    project_id: str = ""

    def open(self, users: int, **policy: int) -> None:
        project = self._post("/projects", name=self.project, **policy)
        self.project_id = project["id"]
        pool = {"project_id": self.project_id, "env": "stage", "domain": "regular", "password": "pw"}
        lines = [json.dumps({"login": f"user-{n}@{self.project}.test", **pool}) for n in range(users)]
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self.api.post("/users/import", content="\n".join(lines), headers=headers)
        assert answer.json()["created"] == users, answer.text

    def farm(self, url: str | None = None) -> Botfarm:
        return Botfarm(url or self.url, TOKEN, project=self.project, env="stage")

    def async_farm(self, url: str | None = None) -> AsyncBotfarm:
        return AsyncBotfarm(url or self.url, TOKEN, project=self.project, env="stage")

    def environment(self) -> dict[str, str]:
        """For a runner in a process of its own."""
        return {
            "BOTFARM_URL": self.url,
            "BOTFARM_TOKEN": TOKEN,
            "BOTFARM_PROJECT": self.project,
            "BOTFARM_ENV": "stage",
        }

    def leases(self, **query: str) -> list[dict[str, Any]]:
        """The newest first."""
        answer = self.api.get("/leases", params={"project_id": self.project_id, **query})
        return list(answer.raise_for_status().json()["items"])

    def waiting(self) -> int:
        answer = self.api.get("/leases/waiting", params={"project_id": self.project_id})
        return len(answer.raise_for_status().json()["items"])

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        return dict(self.api.post(path, json=body).raise_for_status().json())


@contextmanager
def stage_on(url: str) -> Iterator[Stage]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60) as api:
        yield Stage(url, api)
