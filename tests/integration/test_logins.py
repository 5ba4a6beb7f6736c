"""One account is one user, however its login is spelled."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from support.http import assert_problem, create_project, create_user

PAIRS = [
    ("jürgen@x.test", "Ju\u0308rgen@X.test"),
    ("a@bücher.test", "A@xn--BCHER-kva.test"),
    ("a@shop.test", "a@\uff33\uff28\uff2f\uff30\u3002test"),
    ("ÄNNE@x.test", "änne@x.test"),
    ("strasse@x.test", "STRAẞE@x.test"),
]


def user(project_id: str, login: str) -> dict[str, Any]:
    return {"login": login, "password": "p", "project_id": project_id, "env": "stage", "domain": "regular"}


async def import_users(api: httpx.AsyncClient, *users: dict[str, Any]) -> Any:
    body = "\n".join(map(json.dumps, users)).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.post("/users/import", content=body, headers=headers, params={"on_error": "skip"})
    return answer.json()


@pytest.mark.parametrize(("login", "other"), PAIRS)
async def test_another_spelling_of_a_login_is_the_same_user(
    api: httpx.AsyncClient, login: str, other: str
) -> None:
    project_id = await create_project(api)
    first = await create_user(api, project_id, login=login)
    assert first["login"] == login
    assert_problem(await api.post("/users", json=user(project_id, other)), 409, "user-exists")
    somebody = await create_user(api, project_id, login="somebody@x.test")
    renamed = await api.patch(f"/users/{somebody['id']}", json={"login": other})
    assert_problem(renamed, 409, "user-exists")
    elsewhere = await create_user(api, project_id, login=other, env="prod")
    assert_problem(await api.patch(f"/users/{elsewhere['id']}", json={"env": "stage"}), 409, "user-exists")
    imported = await import_users(api, user(project_id, other))
    assert imported["errors"] == [{"line": 1, "field": "login", "code": "user-exists"}]
    for spelling in (login, other):
        found = (await api.get("/users", params={"login": spelling, "env": "stage"})).json()["items"]
        assert [each["login"] for each in found] == [login]


@pytest.mark.parametrize(("login", "other"), PAIRS)
async def test_a_user_may_be_spelled_in_another_way(api: httpx.AsyncClient, login: str, other: str) -> None:
    project_id = await create_project(api)
    made = await create_user(api, project_id, login=login)
    changed = await api.patch(f"/users/{made['id']}", json={"login": other})
    assert changed.json()["login"] == other
    assert_problem(await api.post("/users", json=user(project_id, login)), 409, "user-exists")
    assert len((await api.get("/users", params={"login": login})).json()["items"]) == 1


async def test_two_spellings_in_one_file_are_one_user(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    lines = [user(project_id, login) for pair in PAIRS for login in pair]
    assert await import_users(api, *lines) == {
        "created": len(PAIRS),
        "updated": 0,
        "unchanged": 0,
        "skipped": len(PAIRS),
        "errors": [
            {"line": line, "field": "login", "code": "user-exists"}
            for line in range(2, 2 * len(PAIRS) + 1, 2)
        ],
    }


async def test_two_requests_at_once_create_one_user(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    spellings = [login for login in PAIRS[0] for _ in range(4)]
    answers = await asyncio.gather(*(api.post("/users", json=user(project_id, login)) for login in spellings))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
