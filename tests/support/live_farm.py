"""Real `botfarm serve` processes, and short ways to fill a farm, to lease from it and to look."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from botfarm_client import AsyncBotfarm, Botfarm
from support.farm import KEYS, PASSWORD, TOKEN
from support.postgres import fresh_database, two_roles
from support.processes import Process, running_botfarm

Result = TypeVar("Result")
Json = dict[str, Any]


@dataclass(frozen=True)
class LiveFarm:
    url: str
    http: httpx.Client

    @property
    def environment(self) -> dict[str, str]:
        return {"BOTFARM_URL": self.url, "BOTFARM_TOKEN": TOKEN}

    def project(self, users: int = 1, **policy: Any) -> str:
        """With so many users of stage; no other project has their logins."""
        name = f"shop-{uuid4().hex[:8]}"
        project = self._post("/projects", {"name": name, "lock_delay": 0, **policy})
        self._import(project["id"], [f"u{number}@{name}.test" for number in range(users)])
        return name

    def project_for_sdk(self, users: int, *, lock_delay: int = 15) -> "LiveProject":
        return LiveProject(self, self.project(users, lock_delay=lock_delay))

    def user(self, project_id: str, **fields: Any) -> Json:
        body = {"password": PASSWORD, "project_id": project_id, "env": "stage", "domain": "regular", **fields}
        return self._post("/users", body)

    def project_id(self, name: str) -> str:
        return next(str(each["id"]) for each in self.get("/projects")["items"] if each["name"] == name)

    def leases(self, project: str, **query: str) -> list[Json]:
        """The first one first."""
        found = self.get("/leases", project_id=self.project_id(project), **query)["items"]
        return sorted(found, key=lambda lease: str(lease["acquired_at"]))

    def trust(self, project: str, issuer: str, claims: dict[str, str]) -> None:
        """Lets runs with these claims lease the users of the project, without a token in their settings."""
        rule = {"name": project, "issuer": issuer, "claims": claims, "projects": [project], "envs": ["*"]}
        self._post("/trust-rules", {**rule, "once": False})

    def take(self, project: str, **wanted: Any) -> Json:
        return self._post("/leases", {"project": project, "env": "stage", **wanted})

    def force_release(self, lease_id: str) -> None:
        self._post(f"/leases/{lease_id}/force_release", {"reason": "to see"})

    def get(self, path: str, **query: str) -> Json:
        return dict(self.http.get(path, params=query).raise_for_status().json())

    def _import(self, project_id: str, logins: list[str]) -> None:
        common = {"password": PASSWORD, "project_id": project_id, "env": "stage", "domain": "regular"}
        lines = "\n".join(json.dumps({"login": login, **common}) for login in logins)
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self.http.post("/users/import", content=lines, headers=headers)
        assert answer.json()["created"] == len(logins), answer.text

    def _post(self, path: str, body: Json) -> Json:
        return dict(self.http.post(path, json=body).raise_for_status().json())


@dataclass(frozen=True)
class LiveProject:
    """A project of a live farm, for clients that hold leases while things go wrong."""

    live: LiveFarm
    name: str

    @property
    def url(self) -> str:
        return self.live.url

    def farm(self, url: str | None = None) -> Botfarm:
        return Botfarm(url or self.url, TOKEN, project=self.name, env="stage")

    def async_farm(self, url: str | None = None) -> AsyncBotfarm:
        return AsyncBotfarm(url or self.url, TOKEN, project=self.name, env="stage")

    def environment(self) -> dict[str, str]:
        """For a runner in a process of its own."""
        return {**self.live.environment, "BOTFARM_PROJECT": self.name, "BOTFARM_ENV": "stage"}

    def leases(self, **query: str) -> list[Json]:
        """The first one first."""
        return self.live.leases(self.name, **query)

    def waiting(self) -> int:
        return len(self.live.get("/leases/waiting", project_id=self.live.project_id(self.name))["items"])


@contextmanager
def live_farm(postgres_url: str, template: str, **settings: str) -> Iterator[LiveFarm]:
    """On a database of its own."""
    with (
        fresh_database(postgres_url, template=template) as database_url,
        serving(database_url, **settings) as (_, url),
        farm_at(url) as farm,
    ):
        yield farm


@contextmanager
def serving(database_url: str, *, port: int = 0, **settings: str) -> Iterator[tuple[Process, str]]:
    """A farm that takes requests, and its URL."""
    environment = {
        **settings,
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": str(port),
    }
    with running_botfarm("serve", environment=environment) as process:
        yield process, process.url()


@contextmanager
def farm_at(url: str) -> Iterator[LiveFarm]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60) as http:
        yield LiveFarm(url, http)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(look: Callable[[], Result], *, seconds: float = 60) -> Result:
    """What it finds, once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found
