"""What tests of the HTTP contract share."""

from typing import Any
from uuid import uuid4

import httpx

from support.farm import PASSWORD

PROJECT = {"name": "shop"}
LEASE = {"project": "shop", "env": "stage"}


async def create_project(api: httpx.AsyncClient, **fields: Any) -> str:
    answer = await api.post("/projects", json={**PROJECT, **fields})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def create_user(api: httpx.AsyncClient, project_id: str, **fields: Any) -> dict[str, Any]:
    body = {
        "login": f"user-{uuid4().hex}@shop.test",
        "password": PASSWORD,
        "project_id": project_id,
        "env": "stage",
        "domain": "regular",
        **fields,
    }
    answer = await api.post("/users", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def assert_problem(answer: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = dict(answer.json())
    assert problem["type"] == f"urn:botfarm:problem:{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
