"""A real `botfarm serve` on a database of its own, and short ways to fill it and to look."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from support.farm import PASSWORD, TOKEN
from support.postgres import fresh_database
from support.stage import serving

Result = TypeVar("Result")
Json = dict[str, Any]


@dataclass(frozen=True)
class LiveFarm:
    url: str
    http: httpx.Client

    @property
    def environment(self) -> dict[str, str]:
        return {"BOTFARM_URL": self.url, "BOTFARM_TOKEN": TOKEN}

    def project(self, users: int = 1, **policy: int) -> str:
        """With so many users of stage; no other project has their logins."""
        name = f"shop-{uuid4().hex[:8]}"
        project = self._post("/projects", {"name": name, "lock_delay": 0, **policy})
        for number in range(users):
            self.user(project["id"], login=f"u{number}@{name}.test")
        return name

    def user(self, project_id: str, **fields: Any) -> Json:
        body = {"password": PASSWORD, "project_id": project_id, "env": "stage", "domain": "regular", **fields}
        return self._post("/users", body)

    def project_id(self, name: str) -> str:
        return next(str(each["id"]) for each in self.get("/projects")["items"] if each["name"] == name)

    def leases(self, project: str, **query: str) -> list[Json]:
        """The first one first."""
        found = self.get("/leases", project_id=self.project_id(project), **query)["items"]
        return sorted(found, key=lambda lease: str(lease["acquired_at"]))

    def take(self, project: str, **wanted: Any) -> Json:
        return self._post("/leases", {"project": project, "env": "stage", **wanted})

    def force_release(self, lease_id: str) -> None:
        self._post(f"/leases/{lease_id}/force_release", {"reason": "to see"})

    def get(self, path: str, **query: str) -> Json:
        return dict(self.http.get(path, params=query).raise_for_status().json())

    def _post(self, path: str, body: Json) -> Json:
        return dict(self.http.post(path, json=body).raise_for_status().json())


@contextmanager
def live_farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with fresh_database(postgres_url, template=template) as database_url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with (
            serving(database_url) as (_, url),
            httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=30) as http,
        ):
            yield LiveFarm(url, http)


def until(look: Callable[[], Result], *, seconds: float = 60) -> Result:
    """What it finds, once that is something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
    return found
