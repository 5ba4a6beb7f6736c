"""One account is one user, however its login is spelled."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from botfarm.db.stock.user_queries import NewUser, insert_user
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.logins import login_key
from botfarm.domain.pools import Pool
from support.farm import Farm
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
            {"line": line, "field": "login", "code": "duplicate", "earlier_line": line - 1}
            for line in range(2, 2 * len(PAIRS) + 1, 2)
        ],
    }


NOT_ADDRESSES = ["+49 170 1234567", "SHOP\\anna", "anna", "jürgen müller", "a@b@", "a b@c", "x" * 320, "用户"]


@pytest.mark.parametrize("login", NOT_ADDRESSES)
async def test_a_project_of_any_logins_takes_phone_numbers_and_names(
    api: httpx.AsyncClient, login: str
) -> None:
    project_id = await create_project(api, logins="any")
    made = await create_user(api, project_id, login=login)
    assert made["login"] == login
    found = (await api.get("/users", params={"login": login.upper()})).json()["items"]
    assert [each["login"] for each in found] == [login]
    assert_problem(await api.post("/users", json=user(project_id, login.upper())), 409, "user-exists")
    lease = (await api.post("/leases", json={"project": "shop", "env": "stage"})).json()
    assert lease["users"][0]["login"] == login


@pytest.mark.parametrize(
    "login", ["", " a", "a ", "a\n", "a\0b", "a\u200bb", "a\xa0b", "a\u202eb", "x" * 321]
)
@pytest.mark.parametrize("logins", ["email", "any"])
async def test_no_project_takes_a_login_that_nobody_could_type(
    api: httpx.AsyncClient, logins: str, login: str
) -> None:
    project_id = await create_project(api, logins=logins)
    problem = assert_problem(await api.post("/users", json=user(project_id, login)), 422, "invalid-request")
    assert [each["field"] for each in problem["errors"]] == ["login"]
    (error,) = (await import_users(api, user(project_id, login)))["errors"]
    assert error["field"] == "login"


@pytest.mark.parametrize("login", NOT_ADDRESSES)
async def test_a_project_takes_addresses_alone_unless_it_says_otherwise(
    api: httpx.AsyncClient, login: str
) -> None:
    project_id = await create_project(api)
    assert (await api.get(f"/projects/{project_id}")).json()["logins"] == "email"
    problem = assert_problem(await api.post("/users", json=user(project_id, login)), 422, "invalid-request")
    assert problem["errors"] == [
        {
            "field": "login",
            "code": "invalid",
            "message": "the project's logins are e-mail addresses, and this user's would be none",
        }
    ]
    assert (await import_users(api, user(project_id, login)))["errors"] == [
        {"line": 1, "field": "login", "code": "invalid"}
    ]


@pytest.mark.parametrize("login", ["a@my_shop.test", "a@localhost", "a@_x.b_ü.test", "jürgen@bücher.test"])
async def test_addresses_of_test_systems_are_addresses(api: httpx.AsyncClient, login: str) -> None:
    project_id = await create_project(api)
    assert (await create_user(api, project_id, login=login))["login"] == login


async def test_users_keep_their_logins_when_their_project_wants_addresses_again(
    api: httpx.AsyncClient,
) -> None:
    project_id = await create_project(api, logins="any")
    made = await create_user(api, project_id, login="+49 170 1234567")
    changed = await api.patch(f"/projects/{project_id}", json={"logins": "email"})
    assert changed.json()["logins"] == "email"
    assert_problem(await api.post("/users", json=user(project_id, "+49 170 7654321")), 422, "invalid-request")
    path = f"/users/{made['id']}"
    same = await api.patch(path, json={"login": made["login"], "labels": {"plan": "paid"}})
    assert (same.status_code, same.json()["login"]) == (200, made["login"])
    assert_problem(await api.patch(path, json={"login": "anna"}), 422, "invalid-request")
    assert (await api.post("/leases", json={"project": "shop", "env": "stage"})).status_code == 201
    assert_problem(await api.patch(f"/projects/{project_id}", json={"logins": None}), 422, "invalid-request")
    assert_problem(
        await api.patch(f"/projects/{project_id}", json={"logins": "phone"}), 422, "invalid-request"
    )


async def test_a_user_moves_only_where_its_login_is_allowed(api: httpx.AsyncClient) -> None:
    of_any = await create_project(api, logins="any")
    of_addresses = await create_project(api, name="mail")
    made = await create_user(api, of_any, login="anna")
    path = f"/users/{made['id']}"
    problem = assert_problem(await api.patch(path, json={"project_id": of_addresses}), 422, "invalid-request")
    assert [(each["field"], each["code"]) for each in problem["errors"]] == [("project_id", "invalid")]
    moved = await api.patch(path, json={"project_id": of_addresses, "login": "anna@x.test"})
    assert (moved.json()["project_id"], moved.json()["login"]) == (of_addresses, "anna@x.test")


@pytest.mark.parametrize("login", ["a@bücher.test", "a@xn--bcher-kva.test"])
@pytest.mark.parametrize(
    "part", ["a@bücher", "A@BÜCHER.test", "bu\u0308cher.test", "@bücher.test", "cher-kva", "a@", ".test"]
)
async def test_a_part_of_a_login_finds_every_spelling_of_its_host(
    api: httpx.AsyncClient, login: str, part: str
) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login=login)
    await create_user(api, project_id, login="somebody@else.org")
    found = (await api.get("/users", params={"search": part})).json()["items"]
    assert [each["login"] for each in found] == [login]


async def test_a_part_of_the_login_as_it_was_typed_finds_it(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api, logins="any")
    await create_user(api, project_id, login="Anna@Bücher.test")
    await create_user(api, project_id, login="SHOP\\anna")
    for part, logins in {"Büch": ["Anna@Bücher.test"], "P\\A": ["SHOP\\anna"], "%": [], "_": []}.items():
        found = (await api.get("/users", params={"search": part})).json()["items"]
        assert [each["login"] for each in found] == logins


@pytest.mark.parametrize("first_is_kept", [True, False])
async def test_of_two_spellings_at_once_the_second_waits_for_the_first(
    api: httpx.AsyncClient, farm: Farm, *, first_is_kept: bool
) -> None:
    """Forced order: the first has inserted its user and not committed when the second comes."""
    project_id = await create_project(api)
    first, second = PAIRS[0]
    pool = Pool(UUID(project_id), "stage", "regular")
    async with farm.database.transaction() as session:
        new = NewUser(uuid4(), first, login_key(first), SealedCredentials("v1.x.y"), pool, "{}")
        assert await insert_user(session, new)
        creating = asyncio.create_task(api.post("/users", json=user(project_id, second)))
        await farm.until_blocked()
        if not first_is_kept:
            await session.rollback()
    answer = await creating
    if first_is_kept:
        assert_problem(answer, 409, "user-exists")
    else:
        assert (answer.status_code, answer.json()["login"]) == (201, second)
    assert await farm.sql.fetchval("SELECT count(*) FROM users") == 1


async def test_two_requests_at_once_create_one_user(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    spellings = [login for login in PAIRS[0] for _ in range(4)]
    answers = await asyncio.gather(*(api.post("/users", json=user(project_id, login)) for login in spellings))
    assert sorted(answer.status_code for answer in answers) == [201, *[409] * 7]
