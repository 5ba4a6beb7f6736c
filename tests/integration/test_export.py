"""Exports: what they hold, for whom, and what the audit says of them."""

import json
from io import BufferedReader, BytesIO
from typing import Any, cast

import httpx
import pytest

from botfarm_client.shared.user_files.reading import UserFile
from botfarm_client.shared.user_files.records import Format, Reading, Record
from botfarm_client.shared.user_files.writing import written
from support.farm import PASSWORD
from support.http import assert_problem, create_project, create_user
from support.import_lines import imported, post

SEED = "otpauth://totp/Shop:ann?secret=GEZDGNBVGY3TQOJQ&digits=8"
ODD = [
    ' blank, "quote"; \t and\r\nlines\r ',
    "=1+1",
    "ünïcödé \U0001f600 \u2028",
    "sep=;",
    "\ufeff",
    "a,b;c\td",
    "'\"'\"'",
    "0123",
]


async def export(api: httpx.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    """All pages."""
    found, cursor = [], None
    while True:
        answer = await api.post("/users/export", json={**asked, **({"cursor": cursor} if cursor else {})})
        assert answer.status_code == 200, answer.text
        found += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


async def token(api: httpx.AsyncClient, role: str, **scope: Any) -> dict[str, str]:
    made = {"name": role, "role": role, "projects": ["*"], "envs": ["*"], **scope}
    return {"Authorization": f"Bearer {(await api.post('/tokens', json=made)).json()['token']}"}


@pytest.mark.parametrize("file_format", Format)
async def test_what_is_exported_with_credentials_can_be_imported_elsewhere(
    api: httpx.AsyncClient, file_format: Format
) -> None:
    project_id = await create_project(api)
    for number, odd in enumerate(ODD):
        await create_user(
            api, project_id, login=f"u{number}@shop.test", password=odd, labels={odd: odd} if ":" not in odd else {},
            secrets={odd: [odd, 7, None]} if number % 2 else None, totp_seed=SEED if number % 3 else None,
            domain=("regular", "canary")[number % 2],
        )  # fmt: skip
    before = await export(api, credentials=True)
    text = "".join(written(iter(before), file_format, with_credentials=True))

    other = await create_project(api, name="other")
    file = BufferedReader(cast("Any", BytesIO(text.encode())))
    records = [
        record for record in UserFile(file, f"users.{file_format}", Reading()) if isinstance(record, Record)
    ]
    lines = [{**record.user, "project_id": other} for record in records]
    for line in lines:
        assert line.pop("project") == "shop"
    assert (await post(api, lines)).json() == imported(created=len(ODD))
    after = await export(api, credentials=True, project_id=other)
    assert sorted(map(json.dumps, after)) == sorted(
        json.dumps({**each, "project": "other"}) for each in before
    )
    assert (await post(api, lines, on_error="update")).json() == imported(unchanged=len(ODD))


async def test_an_export_has_the_users_of_its_filter_and_retired_ones_when_asked_for(
    api: httpx.AsyncClient,
) -> None:
    project_id = await create_project(api)
    other = await create_project(api, name="other")
    for login, fields in {
        "red": {"labels": {"team": "red"}},
        "prod": {"env": "prod"},
        "canary": {"domain": "canary"},
        "retired": {},
        "other": {"project_id": other},
    }.items():
        user = await create_user(api, **{"project_id": project_id, "login": f"{login}@shop.test", **fields})
        if login == "retired":
            await api.post(f"/users/{user['id']}/retire", json={"reason": "gone"})

    async def logins(**asked: Any) -> set[str]:
        users = await export(api, limit=1, **asked)
        assert {user["credentials"] for user in users} <= {None}
        return {user["login"].partition("@")[0] for user in users}

    assert await logins() == {"red", "prod", "canary", "other"}
    assert await logins(project_id=project_id) == {"red", "prod", "canary"}
    assert await logins(labels={"team": "red"}) == {"red"}
    assert await logins(env="prod") == {"prod"}
    assert await logins(domain="canary") == {"canary"}
    assert await logins(state="retired") == {"retired"}


async def test_credentials_are_for_admins_and_the_audit_says_who_had_them(api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    for env in ("stage", "stage", "prod"):
        await create_user(api, project_id, env=env, secrets={"pin": PASSWORD})
    manager, admin = await token(api, "manager"), await token(api, "admin", envs=["stage"])
    asked = {"credentials": True, "labels": {}, "project_id": project_id}
    for headers in (manager, await token(api, "viewer")):
        refused = await api.post("/users/export", json=asked, headers=headers)
        assert_problem(refused, 403, "forbidden")
    assert (await api.get("/audit", params={"action": "export_users"})).json()["items"] == []

    without = await api.post("/users/export", json={}, headers=manager)
    assert len(without.json()["items"]) == 3
    assert PASSWORD not in without.text
    withal = await api.post("/users/export", json=asked, headers=admin)
    assert [user["credentials"]["password"] for user in withal.json()["items"]] == [PASSWORD] * 2
    audit = await api.get("/audit", params={"action": "export_users"})
    (entry,) = audit.json()["items"]
    assert (entry["project_id"], entry["env"]) == (project_id, "stage")
    assert entry["details"] == {
        "domain": "regular",
        "exported": 2,
        "credentials": True,
        "filter": {"project_id": project_id},
    }
    assert PASSWORD not in audit.text


@pytest.mark.parametrize(
    "asked", [{"limit": 201}, {"credentials": "yes"}, {"cursor": "?"}, {"login": "a"}, {"state": "fresh"}]
)
async def test_what_cannot_be_asked_for_is_refused(api: httpx.AsyncClient, asked: dict[str, Any]) -> None:
    assert_problem(await api.post("/users/export", json=asked), 422, "invalid-request")
