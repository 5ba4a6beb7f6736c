"""Security headers of every answer, no access for other origins, and limits of a request's size."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.process.http_server import listen, url_of
from botfarm.web.server import serve
from support.app import api_client, on_a_socket
from support.breakages import constraints_that_fail
from support.farm import TOKEN, test_settings
from support.http import LEASE, create_project, create_user
from workers.scheduler import work_with_probes

MIB = 1_048_576
ON_ALL = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
ON_THE_API = {
    **ON_ALL,
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
JSON = {"Content-Type": "application/json"}
REQUESTS: dict[int, tuple[str, str, dict[str, Any]]] = {
    200: ("GET", "/pools", {}),
    201: ("POST", "/leases", {"json": LEASE}),
    204: ("DELETE", "/users/{user}", {}),
    400: ("POST", "/leases", {"content": "{", "headers": JSON}),
    401: ("GET", "/pools", {"headers": {"Authorization": "Bearer wrong"}}),
    403: (
        "POST",
        "/auth/login",
        {"json": {"name": "a", "password": "b"}, "headers": {"Sec-Fetch-Site": "cross-site"}},
    ),
    404: ("GET", "/nothing", {}),
    405: ("PUT", "/pools", {}),
    409: ("POST", "/projects", {"json": {"name": "shop"}}),
    413: ("POST", "/leases", {"content": b" " * (MIB + 1), "headers": JSON}),
    415: ("POST", "/leases", {"content": "{}"}),
    422: ("GET", "/users", {"params": {"stat": "free"}}),
    500: ("POST", "/leases", {"json": {**LEASE, "owner": "broken"}}),
}
PAGES = ("/docs", "/openapi.json", "/livez", "/readyz", "/startupz", "/metrics", "/nothing", "/")


def assert_headers(answer: httpx.Response, expected: dict[str, str]) -> None:
    assert {name: answer.headers.get(name) for name in expected} == expected
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize("status", REQUESTS)
async def test_no_answer_of_the_api_is_kept_framed_or_guessed_at(
    api: httpx.AsyncClient, database_url: str, status: int
) -> None:
    user = await create_user(api, await create_project(api))
    method, path, request = REQUESTS[status]
    async with constraints_that_fail(database_url):
        answer = await api.request(method, path.format(user=user["id"]), **request)
    assert answer.status_code == status
    assert_headers(answer, ON_THE_API)


async def test_no_answer_without_a_database_is_kept_framed_or_guessed_at() -> None:
    async with api_client(test_settings("postgresql://nobody@127.0.0.1:1/nothing")) as api:
        answer = await api.get("/pools")
    assert answer.status_code == 503
    assert_headers(answer, ON_THE_API)


async def test_the_documentation_page_loads_only_from_the_farm_and_cannot_be_framed(
    api: httpx.AsyncClient,
) -> None:
    for page in PAGES:
        answer = await api.get(f"http://farm.test{page}")
        assert_headers(answer, ON_ALL)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy
        assert "*" not in policy


@pytest.mark.parametrize("origin", ["https://elsewhere.test", "null", "http://farm.test", "*"])
async def test_no_answer_allows_another_origin(api: httpx.AsyncClient, origin: str) -> None:
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
        "Access-Control-Request-Private-Network": "true",
    }
    for path in ("/api/v1/leases", "/api/v1/auth/login", "/metrics", "/openapi.json"):
        url, asked = f"http://farm.test{path}", {"Origin": origin}
        answers = [
            await api.get(url, headers=asked),
            await api.post(url, headers=asked, json={}),
            await api.options(url, headers={**asked, **preflight}),
        ]
        assert answers[-1].status_code == 405
        for answer in answers:
            assert [name for name in answer.headers if name.startswith("access-control")] == []
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("trusted", "scheme", "is_said"),
    [("127.0.0.1", "https", True), ("127.0.0.1", "http", False), ("", "https", False)],
)
async def test_https_is_insisted_on_where_a_trusted_proxy_speaks_it(
    database_url: str, trusted: str, scheme: str, *, is_said: bool
) -> None:
    headers = {"X-Forwarded-Proto": scheme, "X-Forwarded-For": "192.0.2.1"}
    settings = test_settings(database_url, trusted_proxies=trusted)
    async with on_a_socket(settings) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        for path in ("/api/v1/pools", "/docs", "/nothing"):
            said = (await client.get(path)).headers.get("strict-transport-security")
            assert said == ("max-age=31536000" if is_said else None)


async def in_chunks(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """A generator, which httpx sends in chunks without a length."""
    for part in parts:
        yield part


@pytest.mark.parametrize("more", [0, 1])
async def test_a_body_has_a_mebibyte_at_most_told_before_or_not(database_url: str, more: int) -> None:
    body = b'{"project": "nowhere", "env": "stage"}'.ljust(MIB + more)
    headers = {"Authorization": f"Bearer {TOKEN}", **JSON}
    async with on_a_socket(test_settings(database_url)) as url, httpx.AsyncClient(headers=headers) as client:
        for content in (body, in_chunks(iter([body[:MIB], body[MIB:]]))):
            answer = await client.post(f"{url}/api/v1/leases", content=content)
            assert answer.status_code == (413 if more else 404), answer.text


@pytest.mark.parametrize(("size", "status"), [(16_384, 401), (16_385, 413)])
async def test_a_sign_in_has_16_kib_at_most_because_anyone_may_send_it(
    api: httpx.AsyncClient, size: int, status: int
) -> None:
    """The longest name and password fit, even with each character escaped as two halves."""
    longest = json.dumps({"name": "\N{ROBOT FACE}" * 320, "password": "\N{ROBOT FACE}" * 1_024})
    assert len(longest) < 16_384
    answer = await api.post("/auth/login", content=longest.ljust(size), headers=JSON)
    assert answer.status_code == status, answer.text


async def test_every_port_refuses_a_head_of_more_than_64_kib(database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics_port = taken.getsockname()[1]
    settings = test_settings(database_url, metrics_port=metrics_port)
    listening, worker_listening = (listen("127.0.0.1", 0, setting="BOTFARM_PORT") for _ in range(2))
    stop, up, worker_up = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient() as client:
        tasks.create_task(serve(settings, listening, stop, announce=up.set))
        tasks.create_task(work_with_probes(settings, worker_listening, stop, announce=worker_up.set))
        async with asyncio.timeout(60):
            await up.wait()
            await worker_up.wait()
        for url in (url_of(listening), url_of(worker_listening), f"http://127.0.0.1:{metrics_port}"):
            for size, is_refused in ((60_000, False), (66_000, True)):
                answer = await client.get(f"{url}/metrics", headers={"X-Long": "a" * size})
                assert (answer.status_code == 431) is is_refused, url
        assert "botfarm_db_up 1.0" in (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text
        stop.set()


@pytest.mark.parametrize("more", [0, 1])
async def test_an_import_has_64_mebibytes_at_most_told_before_or_not(database_url: str, more: int) -> None:
    lines = [b"\n".rjust(MIB)] * 64 + [b" " * more]  # blank lines, which are skipped
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/x-ndjson"}
    async with on_a_socket(test_settings(database_url)) as url, httpx.AsyncClient(headers=headers) as client:
        for content in (b"".join(lines), in_chunks(iter(lines))):
            answer = await client.post(f"{url}/api/v1/users/import", content=content, timeout=60)
            assert answer.status_code == (413 if more else 200), answer.text


async def test_a_line_of_an_import_has_a_mebibyte_at_most(api: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    for size, status in ((MIB, 200), (MIB + 1, 413)):
        body = in_chunks(iter([b" " * (size - 1), b" "]))
        answer = await api.post("/users/import", content=body, headers=headers)
        assert answer.status_code == status, answer.text


async def test_an_address_with_a_slash_too_many_is_not_repeated(api: httpx.AsyncClient) -> None:
    for path in ("/users/", f"/users/{uuid4()}/", "/leases/?owner=hunter2"):
        answer = await api.get(path)
        assert answer.status_code == 404
        assert "location" not in answer.headers
