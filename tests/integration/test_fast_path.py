"""The fast path and the framework cannot be told apart, and the fast path does an operation once."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import test_conformance
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from botfarm_client.testing import FakeUser
from support.app import on_a_socket
from support.conformance import POLICY, Subject, real_subject, user, users
from support.farm import TOKEN, Farm, test_settings
from support.http import LEASE, assert_problem, create_project, create_user
from support.postgres import fresh_database
from support.recording import Recording

FarmOf = Callable[..., Awaitable[Subject]]
Case = Callable[[FarmOf], Awaitable[None]]

REPEAT_REQUESTS = {
    "test_who_waits_gets_what_is_released",
    "test_who_does_not_wait_does_not_overtake_who_does",
}
"""Cases that ask again until something has happened."""
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass
class Way:
    """A way into the application, on which each body arrives in one piece."""

    is_fast: bool
    to_framework: list[str] = field(default_factory=list)
    """Paths of the requests that the fast path has handed on."""

    def __call__(self, app: FastAPI) -> ASGIApp:
        fast_path: Any = app.middleware_stack._app
        framework = fast_path._framework

        async def noting(scope: Scope, receive: Receive, send: Send) -> None:
            self.to_framework.append(scope["path"])
            await framework(scope, receive, send)

        if self.is_fast:
            fast_path._framework = noting
        else:
            app.middleware_stack._app = framework

        async def in_one_piece(scope: Scope, receive: Receive, send: Send) -> None:
            messages = [await _whole_body(receive)]

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            await app(scope, replay, send)

        return in_one_piece


async def _whole_body(receive: Receive) -> Message:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return {"type": "http.request", "body": body, "more_body": False}


@asynccontextmanager
async def farm_of(database_url: str, way: Way, recording: Recording) -> AsyncIterator[FarmOf]:
    """As the fixture of the same name, with a recording of what can be seen."""
    async with AsyncExitStack() as stack:
        subjects: list[Subject] = []

        async def open_farm(*users: FakeUser, max_leases: int | None = None, **policy: int) -> Subject:
            chosen: Sequence[FakeUser] = users or (user(1),)
            real = real_subject(database_url, chosen, replace(POLICY, **policy), max_leases, way=way)
            subjects.append(await stack.enter_async_context(real))
            subjects[-1].api.event_hooks["response"].append(recording.answered)
            return subjects[-1]

        yield open_farm
        (subject,) = subjects
        subject.api.event_hooks["response"].clear()
        audit = await subject.api.get("/audit?limit=1000", headers={"Authorization": f"Bearer {TOKEN}"})
        recording.read_audit(audit.json()["items"])


async def refusals(farm_of: FarmOf) -> None:
    """Requests that the fast path refuses or hands on, in all their kinds."""
    farm = await farm_of(*users(3))
    lease = await farm.taken()
    renew, release = (f"/leases/{lease['id']}/{verb}" for verb in ("renew", "release"))
    bodies = (
        b"", b"null", b"[]", b"{}", b"{",
        b'{"ttl_seconds": "30"}', b'{"ttl_seconds": 1.5}', b'{"ttl_seconds": true}', b'{"surprise": 1}',
        b'{"note": "\\ud800"}', b'{"project": "shop", "env": "stage", "metadata": {"a": NaN}}',
        b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"note": "' + b"x" * 2_000_000 + b'"}',
    )  # fmt: skip
    types = ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "text/plain", "")
    for path in ("/leases", renew, release):
        for body in bodies:
            await farm.api.post(path, content=body, headers={"Content-Type": types[0]})
        for media_type in types:
            await farm.api.post(path, content=b"{}", headers={"Content-Type": media_type})
        for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
            await farm.api.request(method, path)
        await farm.api.post(f"{path}?dry_run=1", json={})
        await farm.api.post(f"{path}/", json={})
    for path in (
        f"/leases/{UNKNOWN}/renew",
        "/leases/none/renew",
        renew.upper(),
        f"/leases/{lease['id']}/keep",
    ):
        await farm.api.post(path, json={})
    for key in ("", "x" * 255, "x" * 256, "k\u00e9y", " key ", "a\tb"):
        await farm.api.post(
            "/leases",
            json={**LEASE, "project": "none"},
            headers=[(b"Idempotency-Key", key.encode("latin-1"))],
        )
    twice = [("Idempotency-Key", "first"), ("Idempotency-Key", "second")]
    first = await farm.api.post("/leases", json=LEASE, headers=twice)
    again = await farm.api.post("/leases", json=LEASE, headers=twice[:1])
    assert (first.status_code, again.status_code, again.json()["id"]) == (201, 200, first.json()["id"])
    for request_id in ("mine-1", "not mine", "x" * 65):
        await farm.api.post(release, json={}, headers={"X-Request-ID": request_id})
    viewer = {"name": "ci", "role": "viewer", "projects": ["*"], "envs": ["*"]}
    told = (await farm.api.post("/tokens", json=viewer)).json()["token"]
    for authorization in (f"Bearer {told}", "Bearer none", "Basic eDp5", "Bearer", ""):
        for path in ("/leases", renew):
            await farm.api.post(path, json=LEASE, headers={"Authorization": authorization})
    del farm.api.headers["Authorization"]
    await farm.api.post("/leases", json=LEASE)


CONFORMANCE = [getattr(test_conformance, name) for name in dir(test_conformance) if name.startswith("test_")]


@pytest.mark.usefixtures("code_clock")
@pytest.mark.parametrize("case", [*CONFORMANCE, refusals])
def test_the_fast_path_and_the_framework_answer_log_count_and_audit_alike(
    case: Case, postgres_url: str, template: str
) -> None:
    fast, slow = (
        seen(case, Way(is_fast=is_fast), postgres_url, template).shown() for is_fast in (True, False)
    )
    for name, shown in fast.items():
        assert shown == slow[name], name


def seen(case: Case, way: Way, postgres_url: str, template: str) -> Recording:
    recording = Recording(counts_repeats=case.__name__ not in REPEAT_REQUESTS)

    async def run(database_url: str) -> None:
        async with farm_of(database_url, way, recording) as open_farm:
            with recording.watching():
                await case(open_farm)

    with fresh_database(postgres_url, template=template) as database_url:
        asyncio.run(run(database_url))
    return recording


async def test_a_plain_request_never_reaches_the_framework(database_url: str) -> None:
    way = Way(is_fast=True)
    async with farm_of(database_url, way, Recording()) as open_farm:
        farm = await open_farm()
        way.to_framework.clear()
        lease = await farm.taken("key", ttl_seconds=30)
        for answer in (
            await farm.acquire("key", ttl_seconds=30),
            await farm.acquire(),
            await farm.acquire(wait_seconds=1),
            await farm.post(lease, "renew"),
            await farm.api.post(f"/leases/{lease['id']}/renew"),
            await farm.post(lease, "release"),
            await farm.post(lease, "renew"),
        ):
            assert answer.status_code in {200, 409, 410}
        assert way.to_framework == []


async def test_an_answer_that_does_not_fit_is_an_error_and_one_lease(
    api: httpx.AsyncClient, farm: Farm, database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    await farm.sql.execute("""UPDATE users SET labels = '{"canary-key": 90210555}'""")
    async with on_a_socket(test_settings(database_url)) as url:
        status_line = await post_in_one_segment(url, "/api/v1/leases", LEASE)
    assert status_line.split()[1] == b"500"
    assert await farm.sql.fetchval("SELECT count(*) FROM leases") == 1
    assert "90210555" not in "".join(capfd.readouterr())


async def post_in_one_segment(url: str, path: str, body: object) -> bytes:
    """The status line of the answer. Head and body are sent as one segment, because HTTP clients send two."""
    address = urlsplit(url)
    content = json.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n"
        f"Authorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write((head + content).encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()
    return answer.partition(b"\r\n")[0]


@pytest.mark.parametrize("stored", ['["hunter2-canary"]', "hunter2-canary"])
async def test_a_user_with_secrets_that_cannot_be_read_is_given_back(
    api: httpx.AsyncClient, farm: Farm, capfd: pytest.CaptureFixture[str], stored: str
) -> None:
    user = await create_user(api, await create_project(api))
    sealed = farm.services.users._key_ring.encrypt(stored, row_id=user["id"], field="secrets")
    await farm.sql.execute("UPDATE users SET secrets = $1", sealed)
    assert_problem(await api.post("/leases", json=LEASE), 500, "internal")
    leases = (await api.get("/leases")).json()["items"]
    assert [(bool(lease["ended_at"]), lease["outcome"]) for lease in leases] == [(True, "broken")]
    assert (await api.get(f"/users/{user['id']}")).json()["state"] == "resting"
    assert "hunter2-canary" not in "".join(capfd.readouterr())
