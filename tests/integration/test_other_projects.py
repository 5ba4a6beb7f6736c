"""A caller with one project cannot find out that another exists: answers are the same with and without it.

One farm is used, because the farm makes the ids: first with project B, then without a trace of it. In the
second phase the ids and names of B have never existed.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import httpx
import pytest
import structlog

from botfarm.domain.access import Role
from botfarm.services.leasing import refusals
from botfarm.services.shared.cursors import encode_cursor
from support.breakages import connection_to
from support.farm import PASSWORD
from support.http import create_project, create_user
from support.statements import noted_everywhere

Json = dict[str, Any]
Ids = dict[str, str]
Asked = tuple[str, str, Json]
B = "b0b0b0b0-0000-4000-8000-00000000000b"
PROBE = "probe"
# Values that change by themselves: a lease's remaining time, and a token's last use.
CLOCKS = re.compile(r'"(expires_in|waited|next_free_in|last_used_at)":("[^"]*"|[\d.]+|null)')

# Removes B's users, leases, tokens and audit entries, and the last leases of users that came from B.
REMOVE = f"""
    SET session_replication_role = replica;
    DELETE FROM audit WHERE project_id = '{B}'
        OR target_id IN (SELECT id FROM tokens WHERE '{B}' = ANY (projects));
    DELETE FROM leases WHERE project_id = '{B}';
    DELETE FROM users WHERE project_id = '{B}';
    DELETE FROM tokens WHERE '{B}' = ANY (projects);
    DELETE FROM projects WHERE id = '{B}';
    UPDATE users SET lease_id = NULL, fence = NULL WHERE lease_id NOT IN (SELECT id FROM leases)"""


async def make_token(api: httpx.AsyncClient, name: str, role: str, *projects: str) -> Json:
    body = {"name": name, "role": role, "projects": projects, "envs": ["*"]}
    answer = await api.post("/tokens", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def bearer(made: Json) -> dict[str, str]:
    return {"Authorization": f"Bearer {made['token']}"}


async def fill(api: httpx.AsyncClient, name: str, project_id: str, holder: dict[str, str]) -> Ids:
    """The same logins, labels and actions in each project."""
    ids = {"project": project_id}
    for login in ("free", "leased", "used", "moved", "quarantined", f"only-{name}"):
        user = await create_user(
            api, project_id, login=f"{login}@shop.test", labels={"login": login}, secrets={"of": name}
        )
        ids[login] = user["id"]
    quarantine = {"reason": f"broken in {name}"}
    await api.post(f"/users/{ids['quarantined']}/quarantine", json=quarantine)
    for login in ("leased", "used", "moved"):
        body = {"ttl_seconds": 3_600, "owner": f"job of {name}", "metadata": {"of": name}}
        headers = {**holder, "Idempotency-Key": login}
        taken = await api.post(f"/users/{ids[login]}/acquire_lock", json=body, headers=headers)
        ids[f"lease of {login}"] = taken.json()["id"]
        if login != "leased":
            await api.post(f"/leases/{taken.json()['id']}/release", headers=holder)
    return ids


def requests(a: Ids, b: Ids, until: str) -> Iterator[Asked]:
    """No request changes anything visible, because all but GET are refused to everybody."""
    yield from (("GET", path, {"params": query}) for path, query in reads(a, b, until))
    yield from acquires(a)
    for user in (*(b[name] for name in ("free", "leased", "used", "quarantined")), a["moved"]):
        yield from of_user(user, b["lease of leased"])
    for name in ("leased", "used", "moved"):
        yield from of_lease(b[f"lease of {name}"], a[name], b[name])
    for user_id in (b["leased"], b["moved"]):
        yield "GET", f"/leases/{a['lease of leased']}/users/{user_id}/totp", {}
        yield "PATCH", f"/leases/{a['lease of leased']}/users/{user_id}", {"json": {"password": PASSWORD}}
    for lease_id in (b["lease of leased"], b["lease of moved"]):
        yield "POST", f"/users/{a['leased']}/release_lock", {"json": {"lease_id": lease_id}}
    yield from into_b(a)
    yield from requests_of_admins(a, b)


def acquires(a: Ids) -> Iterator[Asked]:
    for asked in ({"project": "b"}, {"project_id": B}):
        for more in ({}, {"count": 100}, {"labels": {"login": "free"}}, {"domain": "canary"}):
            yield "POST", "/leases", {"json": {**asked, "env": "stage", **more}}
    for more in ({"count": 100}, {"labels": {"login": "only-b"}}, {"labels": {"login": "leased"}}):
        yield "POST", "/leases", {"json": {"project_id": a["project"], "env": "stage", **more}}


def of_user(user: str, lease: str) -> Iterator[Asked]:
    for headers in ({}, {"Idempotency-Key": "leased"}):
        yield "POST", f"/users/{user}/acquire_lock", {"headers": headers}
    for body in ({}, {"lease_id": lease}):
        yield "POST", f"/users/{user}/release_lock", {"json": body}
    for changes in ({"labels": {"a": "b"}}, {"env": "prod"}):
        yield "PATCH", f"/users/{user}", {"json": changes}
    yield "DELETE", f"/users/{user}", {}


def of_lease(lease: str, *users: str) -> Iterator[Asked]:
    for end in ("renew", "release"):
        yield "POST", f"/leases/{lease}/{end}", {}
    yield "POST", f"/leases/{lease}/force_release", {"json": {"reason": "stuck"}}
    for user in users:
        yield "GET", f"/leases/{lease}/users/{user}/totp", {}
        yield "PATCH", f"/leases/{lease}/users/{user}", {"json": {"password": PASSWORD}}


def into_b(a: Ids) -> Iterator[Asked]:
    """For a login that B has, and for one that it has not."""
    for login in ("free", "new"):
        moved = {"project_id": B, "login": f"{login}@shop.test"}
        new = {**moved, "password": PASSWORD, "env": "stage", "domain": "regular"}
        yield "POST", "/users", {"json": new}
        for on_error in ("fail", "skip"):
            sent = {"content": json.dumps(new), "headers": {"Content-Type": "application/x-ndjson"}}
            yield "POST", f"/users/import?on_error={on_error}", sent
        for user_id in (a["free"], a["leased"]):
            for changes in ({"project_id": B}, moved, {**moved, "env": "prod"}):
                yield "PATCH", f"/users/{user_id}", {"json": changes}


def requests_of_admins(a: Ids, b: Ids) -> Iterator[Asked]:
    for body in ({"name": "b"}, {"name": "c", "id": B}, {"name": "d"}):
        yield "POST", "/projects", {"json": body}
    for changes in ({"name": "b"}, {"name": "c"}, {"default_ttl": 60}):
        yield "PATCH", f"/projects/{B}", {"json": changes}
    for name in ("b", "c"):
        yield "PATCH", f"/projects/{a['project']}", {"json": {"name": name}}
    yield "DELETE", f"/projects/{B}", {}
    for projects in (["b"], [B], ["a", "b"], ["*"]):
        token = {"name": "x", "role": "viewer", "projects": projects, "envs": ["stage"]}
        yield "POST", "/tokens", {"json": token}
    for token_id in (b["token"], b["token of both"], b["token"].upper()):
        yield "DELETE", f"/tokens/{token_id}", {}


def reads(a: Ids, b: Ids, until: str) -> Iterator[tuple[str, Json]]:
    for path in ("/projects", "/pools", "/tokens", "/leases/waiting"):
        yield path, {}
    for project_id in (a["project"], B):
        yield f"/projects/{project_id}", {}
        yield "/leases/waiting", {"project_id": project_id}
    for user in ("free", "leased", "used", "moved", "quarantined"):
        for ids in (a, b):
            yield f"/users/{ids[user]}", {}
            yield f"/users/{ids[user]}/history", {}
    for query in (
        *({}, {"limit": 2}, {"project_id": B}, {"state": "quarantined"}, {"domain": "canary"}),
        *({"login": f"{login}@shop.test"} for login in ("free", "only-b", "from-b")),
        *({"label": f"login:{login}"} for login in ("free", "only-b", "moved")),
        *({"cursor": encode_cursor(B, env, "regular", b["free"])} for env in ("prod", "stage")),
    ):
        yield "/users", query
    for query in (
        *({}, {"limit": 1}, {"state": "active"}, {"state": "ended"}, {"project_id": B}, {"env": "stage"}),
        *({"user_id": ids[user]} for ids in (a, b) for user in ("leased", "used", "moved")),
        *({"owner": f"job of {name}"} for name in ("a", "b")),
        {"principal": f"token:holder-b:{b['holder']}"},
        *({"cursor": encode_cursor(fence)} for fence in (1, 4, 5, 100)),
    ):
        yield "/leases", query
    for lease in ("leased", "used", "moved"):
        yield f"/leases/{a[f'lease of {lease}']}", {}
        yield f"/leases/{b[f'lease of {lease}']}", {}
    for query in (
        *({}, {"limit": 1}, {"project_id": B}, {"action": "create_token"}, {"action": "acquire_lock"}),
        *({"target_id": target} for target in (B, *b.values(), a["moved"], a["lease of moved"])),
        {"principal": f"token:holder-b:{b['holder']}"},
        {"cursor": encode_cursor(1_000, 1_000)},
    ):
        yield "/audit", {**query, "until": until}


@contextmanager
def statements(own_project: str) -> Iterator[Counter[str]]:
    """Those of the requests that are probes: as many, and the same, mean the same work and the same time.

    Without those that a cache spares: for the caller's token and its own project.
    """
    executed: Counter[str] = Counter()

    def note(statement: str, parameters: object) -> None:
        is_token = "FROM tokens" in statement and "expires_in" in statement
        is_project = "FROM projects" in statement and own_project in str(parameters)
        is_probe = structlog.contextvars.get_contextvars().get("request_id") == PROBE
        if is_probe and not is_token and not is_project:
            executed[statement] += 1

    with noted_everywhere(note):
        yield executed


@asynccontextmanager
async def waiter(api: httpx.AsyncClient, headers: dict[str, str]) -> AsyncIterator[None]:
    """A request waits for a user of B."""
    body = {"project": "b", "env": "stage", "labels": {"login": "leased"}, "wait_seconds": 50}
    waiting = asyncio.create_task(api.post("/leases", json=body, headers=headers))
    try:
        yield
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})


async def answers_to(
    api: httpx.AsyncClient, caller: dict[str, str], own_project: str, asked: list[Asked]
) -> list[tuple[str, ...]]:
    """Everything visible of each answer: status, headers, body, and the statements that were sent."""
    answers = []
    for method, path, content in asked:
        headers = {**caller, **content.get("headers", {}), "X-Request-ID": PROBE}
        for _ in range(3):
            with statements(own_project) as executed:
                answer = await api.request(method, path, **{**content, "headers": headers})
            if answer.status_code != HTTPStatus.SERVICE_UNAVAILABLE:  # a loaded machine is slow
                break
        assert method == "GET" or answer.status_code >= 400 or '"created":0' in answer.text, (
            path,
            answer.text,
        )
        said = {name: value for name, value in answer.headers.items() if name != "content-length"}
        body = CLOCKS.sub(r'"\1":…', answer.text)
        answers.append(
            (
                f"{method} {path} {content}",
                str(answer.status_code),
                str(said),
                body,
                str(sorted(executed.items())),
            )
        )
    return answers


async def test_a_caller_cannot_find_out_that_another_project_exists(
    api: httpx.AsyncClient, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Counts of refused requests are stored some seconds later, amid the statements of another request.
    monkeypatch.setattr(refusals, "STORED_AFTER", 3_600)
    project_id = await create_project(api, name="a")
    await create_project(api, name="b", id=B)
    callers = {role: bearer(await make_token(api, role, role, "a")) for role in Role}
    holder = await make_token(api, "holder-b", "runner", "b")
    a = await fill(api, "a", project_id, callers[Role.RUNNER])
    b = await fill(api, "b", B, bearer(holder))
    b["holder"] = holder["id"]
    b["token"] = (await make_token(api, "b", "runner", "b"))["id"]
    b["token of both"] = (await make_token(api, "both", "runner", "a", "b"))["id"]
    until = datetime.now(UTC).isoformat()
    for user, move in ((a["moved"], {"project_id": B, "login": "from-a@shop.test"}),
                       (b["moved"], {"project_id": project_id, "login": "from-b@shop.test"})):  # fmt: skip
        moved = await api.patch(f"/users/{user}", json=move)
        assert moved.status_code == 200, moved.text

    asked = list(requests(a, b, until))
    async with waiter(api, bearer(holder)):
        with_b = {role: await answers_to(api, caller, project_id, asked) for role, caller in callers.items()}
        audits = [
            (await api.get("/audit", headers=callers[role])).text for role in (Role.MANAGER, Role.ADMIN)
        ]
    async with connection_to(database_url) as sql:
        await sql.execute(REMOVE)
    for role, caller in callers.items():
        without_b = await answers_to(api, caller, project_id, asked)
        assert [pair for pair in zip(with_b[role], without_b, strict=True) if pair[0] != pair[1]] == [], role

    shown = "".join([body for answers in with_b.values() for *_, body, _ in answers] + audits)
    hidden = {*b.values(), "only-b", "from-a", "job of b", "broken in b", "holder-b", '"of":"b"'} - {
        b["moved"]
    }
    assert [name for name in hidden if name in shown] == []
    assert "from-b" in shown, "what has come from B is seen where it is now"


async def test_metrics_on_the_main_port_show_pools_only_to_a_whole_scope(api: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await create_user(api, await create_project(api, name=name))
        await api.post("/leases", json={"project": name, "env": "stage"})
    of_a = await make_token(api, "a", "admin", "a")
    of_some_envs = await make_token(api, "stage", "admin", "*")
    for headers in (bearer(of_a), {"Authorization": "Bearer wrong"}, {"Authorization": ""}):
        text = (await api.get("http://farm.test/metrics", headers=headers)).text
        assert "botfarm_http_requests_total" in text
        assert 'project="' not in text
    whole = (await api.get("http://farm.test/metrics", headers=bearer(of_some_envs))).text
    assert 'project="b"' in whole
