"""Imports of many users: all or none, or all that have no error."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest

from botfarm.web.api.stock.json_lines import MAX_LINES
from support.app import api_client
from support.farm import PASSWORD, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.import_lines import imported, post, user

SECRET = "hunter2-canary"


async def total(api: httpx.AsyncClient) -> int:
    return sum(pool["total"] for pool in (await api.get("/pools")).json()["items"])


async def test_every_line_becomes_a_user_that_can_be_leased(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    lines = [user(project_id, n, labels={"n": str(n)}) for n in range(2_500)]
    answer = await post(api, [*lines, "", "  "])
    assert answer.json() == imported(created=2_500)
    lease = (await api.post("/leases", json={**LEASE, "labels": {"n": "2345"}})).json()
    assert (lease["users"][0]["login"], lease["users"][0]["password"]) == ("u2345@shop.test", PASSWORD)
    again = await post(api, ["", *lines], on_error="skip")
    repeated = [{"line": line, "field": "login", "code": "user-exists"} for line in range(2, 2_502)]
    assert again.json() == imported(skipped=2_500, errors=repeated)


BAD_LINES = {
    3: ({"login": SECRET}, "login", "invalid"),
    4: ({"env": "moon"}, "env", "unknown"),
    6: ({"project_id": str(uuid4())}, "project_id", "no-such-project"),
    7: ({"login": "U1@shop.test"}, "login", "duplicate"),
    8: ({"password": f"{SECRET}\0"}, "password", "invalid"),
    9: ({"color": SECRET}, "color", "extra_forbidden"),
}


def mixed(project_id: str) -> list[object]:
    """Line 1 is fine and line 7 repeats its login; 5 is no JSON."""
    lines: list[object] = [user(project_id, n) for n in range(1, 11)]
    for number, (fields, _, _) in BAD_LINES.items():
        lines[number - 1] = {**user(project_id, number), **fields}
    lines[4] = f'{{"login": "{SECRET}'
    return lines


EXPECTED = sorted(
    [
        *(
            {"line": line, "field": field, "code": code}
            | ({"earlier_line": 1} if code == "duplicate" else {})
            for line, (_, field, code) in BAD_LINES.items()
        ),
        {"line": 5, "field": "", "code": "json_invalid"},
    ],
    key=lambda error: int(str(error["line"])),
)


async def test_with_a_bad_line_nothing_is_created_and_every_bad_line_is_named(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    answer = await post(api, mixed(project_id))
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"] == EXPECTED
    assert SECRET not in answer.text
    assert await total(api) == 0


async def test_bad_lines_may_be_skipped(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    answer = await post(api, mixed(project_id), on_error="skip")
    assert answer.status_code == 200
    assert answer.json() == imported(created=3, skipped=7, errors=EXPECTED)
    assert await total(api) == 3
    again = await post(api, mixed(project_id), on_error="skip")
    assert again.json()["created"] == 0
    assert await total(api) == 3


async def test_a_login_that_is_there_already_stops_the_import(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, login="u2@shop.test")
    problem = assert_problem(
        await post(api, [user(project_id, n) for n in range(1, 4)]), 422, "invalid-request"
    )
    assert problem["errors"] == [{"line": 2, "field": "login", "code": "user-exists"}]
    assert await total(api) == 1


async def test_lines_end_as_they_may(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    lines = [json.dumps(user(project_id, n)) for n in range(3)]
    body = ("\ufeff" + "\r\n".join(lines)).encode()
    answer = await api.post("/users/import", content=body, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["created"] == 3
    assert (await post(api, [])).json() == imported()


async def test_a_line_with_several_errors_is_one_line(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    answer = await post(
        api, [user(project_id, 1), user(project_id, 2, login="", env="Y", domain="Z")], on_error="skip"
    )
    assert (answer.json()["created"], answer.json()["skipped"], len(answer.json()["errors"])) == (1, 1, 3)


async def test_a_file_of_another_format_gets_a_bounded_answer(api: httpx.AsyncClient) -> None:
    problem = assert_problem(await post(api, ["{}"] * 50_000, on_error="skip"), 422, "invalid-request")
    assert len(problem["errors"]) <= 10_010


async def test_two_imports_of_the_same_logins_at_once_do_not_deadlock(
    api: httpx.AsyncClient, database_url: str
) -> None:
    project_id = await create_project(api)
    lines = [user(project_id, n) for n in range(3_000)]
    async with api_client(test_settings(database_url)) as other:
        answers = await asyncio.gather(
            post(api, lines, on_error="skip"), post(other, list(reversed(lines)), on_error="skip")
        )
    assert sum(answer.json()["created"] for answer in answers) == 3_000


@pytest.mark.parametrize("end", ["whole", "broken off"])
async def test_one_import_at_a_time_and_the_next_is_told_to_come_back(
    api: httpx.AsyncClient, end: str
) -> None:
    project_id = await create_project(api)
    is_reading, may_end = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield json.dumps(user(project_id, 1)).encode() + b"\n"
        is_reading.set()
        await may_end.wait()
        yield b"" if end == "whole" else b"\n" * (MAX_LINES + 1)

    headers = {"Content-Type": "application/x-ndjson"}
    first = asyncio.create_task(api.post("/users/import", content=slowly(), headers=headers))
    await is_reading.wait()
    refused = await post(api, [user(project_id, 2)])
    assert_problem(refused, 429, "slow-down")
    assert int(refused.headers["retry-after"]) > 0
    may_end.set()
    assert (await first).status_code == (200 if end == "whole" else 413)
    assert (await post(api, [user(project_id, 2)])).json()["created"] == 1


@pytest.mark.parametrize("media_type", ["application/json", "text/csv", ""])
async def test_an_import_takes_json_lines_only(api: httpx.AsyncClient, media_type: str) -> None:
    answer = await api.post("/users/import", content=b"{}", headers={"Content-Type": media_type})
    assert_problem(answer, 415, "unsupported-media-type")


async def test_an_import_takes_64_mib_and_100_000_lines_of_1_mib(api: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    too_long, too_many, too_large = b" " * 1_100_000, b"\n" * 100_001, (b" " * 1_000_000 + b"\n") * 68
    for body in (too_long, too_many, too_large):
        assert_problem(await api.post("/users/import", content=body, headers=headers), 413, "too-large")
    assert (await api.post("/users/import", content=b"\n" * 100_000, headers=headers)).status_code == 200
    assert_problem(await post(api, [], on_error="retry"), 422, "invalid-request")


@pytest.mark.parametrize("revoked", [True, False])
async def test_an_import_whose_token_is_revoked_before_the_last_line_adds_nothing(
    api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, *, revoked: bool
) -> None:
    monkeypatch.setattr("botfarm.services.shared.ttl_cache.REFRESH_INTERVAL", 0.05)
    project_id = await create_project(api)
    token = {"name": "m", "role": "manager", "projects": ["*"], "envs": ["*"]}
    made = (await api.post("/tokens", json=token)).json()
    bearer = {"Authorization": f"Bearer {made['token']}"}

    async def lines() -> AsyncIterator[bytes]:
        yield json.dumps(user(project_id, 1)).encode() + b"\n"
        assert (await api.get("/pools", headers=bearer)).status_code == 200
        if revoked:
            await api.delete(f"/tokens/{made['id']}")
            async with asyncio.timeout(60):
                while (await api.get("/pools", headers=bearer)).status_code != 401:
                    await asyncio.sleep(0.01)
        yield json.dumps(user(project_id, 2)).encode()

    headers = {**bearer, "Content-Type": "application/x-ndjson"}
    answer = await api.post("/users/import", content=lines(), headers=headers)
    if revoked:
        assert_problem(answer, 401, "unauthenticated")
    assert await total(api) == (0 if revoked else 2)
