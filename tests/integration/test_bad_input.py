"""Bad input is refused with a 4xx that names the field, never the value; nothing is changed."""

import asyncio
import base64
import itertools
import json
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from botfarm.web.http import routing
from support.app import on_a_socket
from support.farm import TOKEN, test_settings
from support.http import LEASE, assert_problem, create_project, create_user

SECRET = "hunter2-canary"

BAD_BODIES = {
    "an env that is no name": ("/leases", {**LEASE, "env": f"{SECRET} "}, "env"),
    "no project": ("/leases", {"env": "stage"}, "project"),
    "two projects": ("/leases", {**LEASE, "project_id": str(uuid4())}, "project"),
    "ttl 0": ("/leases", {**LEASE, "ttl_seconds": 0}, "ttl_seconds"),
    "ttl of a week": ("/leases", {**LEASE, "ttl_seconds": 604_800}, "ttl_seconds"),
    "ttl as text": ("/leases", {**LEASE, "ttl_seconds": "60"}, "ttl_seconds"),
    "count 0": ("/leases", {**LEASE, "count": 0}, "count"),
    "count 10,000": ("/leases", {**LEASE, "count": 10_000}, "count"),
    "unknown field": ("/leases", {**LEASE, "tttl": SECRET}, "tttl"),
    "a secret as a name": ("/leases", {**LEASE, SECRET: 1}, "?"),
    "owner with NUL": ("/leases", {**LEASE, "owner": f"{SECRET}\0"}, "owner"),
    "long owner": ("/leases", {**LEASE, "owner": SECRET * 100}, "owner"),
    "metadata with NUL": ("/leases", {**LEASE, "metadata": {"a": [f"{SECRET}\0"]}}, "metadata"),
    "deep metadata": ("/leases", {**LEASE, "metadata": {"a": json.loads("[" * 300 + "]" * 300)}}, "metadata"),
    "large metadata": ("/leases", {**LEASE, "metadata": {"a": SECRET * 400}}, "metadata"),
    "label with NUL": ("/leases", {**LEASE, "labels": {"a": f"{SECRET}\0"}}, "labels"),
    "10,000 labels": ("/leases", {**LEASE, "labels": {str(n): SECRET for n in range(10_000)}}, "labels"),
    "login with a tab": (
        "/users",
        {
            "login": f"{SECRET}\t",
            "password": SECRET,
            "project_id": str(uuid4()),
            "env": "stage",
            "domain": "regular",
        },
        "login",
    ),
    "password with NUL": (
        "/users",
        {
            "login": "a@b.test",
            "password": f"{SECRET}\0",
            "project_id": str(uuid4()),
            "env": "stage",
            "domain": "canary",
        },
        "password",
    ),
    "no password": (
        "/users",
        {"login": "a@b.test", "password": "", "project_id": SECRET, "env": "stage", "domain": "canary"},
        "password",
    ),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_bad_input_names_the_field_and_never_the_value(api: httpx.AsyncClient, case: str) -> None:
    path, body, field = BAD_BODIES[case]
    answer = await api.post(path, json=body)
    problem = assert_problem(answer, 422, "invalid-request")
    assert field in [error["field"] for error in problem["errors"]]
    assert all(error["code"] and error["message"] for error in problem["errors"])
    assert SECRET not in answer.text


SURROGATE = "\\ud800"
IN_TEXT = {
    "owner": ("/leases", f'{{"project": "shop", "env": "stage", "owner": "{SURROGATE}"}}'),
    "labels": ("/leases", f'{{"project": "shop", "env": "stage", "labels": {{"a": "{SURROGATE}"}}}}'),
    "metadata": ("/leases", f'{{"project": "shop", "env": "stage", "metadata": {{"a": ["{SURROGATE}"]}}}}'),
    "note": (f"/leases/{uuid4()}/release", f'{{"note": "{SURROGATE}"}}'),
    "reason": (f"/leases/{uuid4()}/force_release", f'{{"reason": "{SURROGATE}"}}'),
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"env": "QA 1"},
            "must be 1 to 32 of a-z, 0-9, dot, dash and underscore, the first a letter or digit",
        ),
        ({"owner": "x" * 201}, "must be at most 200 characters long"),
        ({"purpose": "hold", "note": ""}, "must not be empty"),
    ],
)
async def test_limits_of_a_text_are_said_in_words(
    api: httpx.AsyncClient, fields: dict[str, str], message: str
) -> None:
    problem = assert_problem(await api.post("/leases", json={**LEASE, **fields}), 422, "invalid-request")
    assert [error["message"] for error in problem["errors"]] == [message]


@pytest.mark.parametrize("field", IN_TEXT)
async def test_half_a_character_is_refused(api: httpx.AsyncClient, field: str) -> None:
    path, body = IN_TEXT[field]
    answer = await api.post(path, content=body, headers={"Content-Type": "application/json"})
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["field"].startswith(field)


async def test_a_backslash_before_u0000_is_no_nul(api: httpx.AsyncClient) -> None:
    body = {**LEASE, "metadata": {"path": "C:\\u0000"}}
    assert_problem(await api.post("/leases", json=body), 404, "no-such-project")


async def test_a_nul_is_met_wherever_text_goes_to_the_database(api: httpx.AsyncClient) -> None:
    token = {"name": "ci", "role": "viewer", "projects": [f"{SECRET}\0"], "envs": ["*"]}
    answer = await api.post("/tokens", json=token)
    assert assert_problem(answer, 422, "invalid-request")["errors"][0]["field"] == "projects.0"
    assert SECRET not in answer.text
    problem = assert_problem(await api.delete("/tokens/a%00b"), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "token_id"


@pytest.mark.parametrize(
    ("field", "moment"),
    [("since", "0001-01-01T00:00:00+14:00"), ("until", "9999-12-31T23:59:59-14:00")],
)
async def test_a_moment_before_or_after_the_calendar_is_refused(
    api: httpx.AsyncClient, field: str, moment: str
) -> None:
    problem = assert_problem(await api.get("/audit", params={field: moment}), 422, "invalid-request")
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_the_first_and_the_last_moment_are_fine(api: httpx.AsyncClient, moment: str) -> None:
    assert (await api.get("/audit", params={"since": moment, "until": moment})).status_code == 200


async def test_a_misspelled_filter_does_not_list_everything(api: httpx.AsyncClient) -> None:
    problem = assert_problem(await api.get("/users", params={"stat": "free"}), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "stat"


async def test_a_forged_cursor_is_refused(api: httpx.AsyncClient) -> None:
    def cursor(*parts: str) -> str:
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()

    some_id = str(uuid4())
    for bad in (cursor(some_id, "\0", "regular", some_id), cursor(some_id, "Moon", "regular", some_id)):
        assert_problem(await api.get("/users", params={"cursor": bad}), 422, "invalid-request")
    for bad in (cursor("9" * 19), cursor("-1"), cursor("1", "2")):
        assert_problem(await api.get("/leases", params={"cursor": bad}), 422, "invalid-request")


async def test_what_is_not_json_is_refused(api: httpx.AsyncClient) -> None:
    json_type = {"Content-Type": "application/json"}
    for body in (b'{"env": "stage"', b"\xff\xfe", b"{" * 100_000, b'{"count": ' + b"9" * 5_000 + b"}"):
        assert_problem(await api.post("/leases", content=body, headers=json_type), 400, "malformed-json")
    lone_surrogate = b'{"project": "shop", "env": "stage", "metadata": {"a": "\\ud800"}}'
    assert_problem(
        await api.post("/leases", content=lone_surrogate, headers=json_type), 422, "invalid-request"
    )
    not_a_number = b'{"project": "shop", "env": "stage", "metadata": {"a": NaN}}'
    assert_problem(await api.post("/leases", content=not_a_number, headers=json_type), 422, "invalid-request")
    large = b'{"project": "' + b"x" * 2_000_000 + b'"}'
    assert_problem(await api.post("/leases", content=large, headers=json_type), 413, "too-large")
    for media_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
        answer = await api.post("/leases", content=b"{}", headers={"Content-Type": media_type})
        assert_problem(answer, 415, "unsupported-media-type")


async def test_unknown_paths_and_ids_are_problems(api: httpx.AsyncClient) -> None:
    assert_problem(await api.get("/nothing"), 404, "no-such-page")
    assert_problem(await api.delete("/pools"), 405, "method-not-allowed")
    problem = assert_problem(await api.get("/users/not-a-uuid"), 422, "invalid-request")
    assert problem["errors"][0]["field"] == "user_id"
    for key in ("", "x" * 256, "caf\u00e9"):
        answer = await api.post("/leases", json=LEASE, headers={b"Idempotency-Key": key.encode("latin-1")})
        problem = assert_problem(answer, 422, "invalid-request")
        assert problem["errors"][0]["field"] == "idempotency-key"


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", "Basic YTpi", "bearer \u00e9"])
async def test_a_request_without_a_token_is_refused_before_its_body_is_read(
    api: httpx.AsyncClient, token: str | None
) -> None:
    if token is None:
        del api.headers["Authorization"]
    headers = {} if token is None else {b"Authorization": token.encode("latin-1")}
    for request in (
        api.get("/pools", headers=headers),
        api.post("/leases", content=b"{", headers=headers),
        api.get(f"/leases/{uuid4()}", headers=headers),
    ):
        answer = await request
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


HEAD = f"""POST /api/v1/leases HTTP/1.1\r
Host: farm.test\r
Authorization: Bearer {TOKEN}\r
Content-Type: application/json\r
Transfer-Encoding: chunked\r
\r
""".encode()


async def answer_to(url: str, chunks: Iterable[bytes]) -> str:
    """The server's answer to an unfinished body; the client's side stays open."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(HEAD)
    answered = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    for chunk in chunks:
        writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await asyncio.sleep(0)
        if answered.done() or writer.is_closing():
            break
    head = (await asyncio.wait_for(answered, 10)).decode()
    writer.close()
    return head


async def test_a_body_that_stops_coming_is_not_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "BODY_PATIENCE", 0.05)
    async with on_a_socket(test_settings(database_url)) as url:
        assert (await answer_to(url, [b'{"project": '])).startswith("HTTP/1.1 400 ")


async def test_a_body_that_trickles_has_an_end(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing.FarmRoute, "body_deadline", 0.2)
    monkeypatch.setattr(routing, "BODY_PATIENCE", 60)

    def trickle() -> Iterator[bytes]:
        yield b'{"owner": "'
        yield from itertools.repeat(b"x", 10_000)  # far below the limit of its size

    async with on_a_socket(test_settings(database_url)) as url:
        assert (await answer_to(url, trickle())).startswith("HTTP/1.1 400 ")


async def test_a_body_that_never_ends_is_cut_at_its_limit(database_url: str) -> None:
    async with on_a_socket(test_settings(database_url)) as url:
        assert (await answer_to(url, itertools.repeat(b" " * 65_536))).startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "labels",
    [[f"key-{n}:{SECRET}" for n in range(65)], [f"plan:{SECRET}", "plan:paid"], [f"plan:{SECRET * 20}"]],
    ids=["more than a user can have", "two values of one key", "a value that no user can have"],
)
async def test_a_filter_that_no_user_can_match_is_refused(api: httpx.AsyncClient, labels: list[str]) -> None:
    answer = await api.get("/users", params={"label": labels})
    problem = assert_problem(answer, 422, "invalid-request")
    assert problem["errors"][0]["field"].partition(".")[0] == "label"
    assert SECRET not in answer.text


async def test_as_many_labels_as_a_user_has_may_be_asked_for(api: httpx.AsyncClient) -> None:
    labels = {f"key-{n}": str(n) for n in range(64)}
    user = await create_user(api, await create_project(api), labels=labels)
    wanted = [f"{key}:{value}" for key, value in labels.items()]
    found = await api.get("/users", params={"label": [*wanted[:-1], wanted[0]]})
    assert [item["id"] for item in found.json()["items"]] == [user["id"]]


async def test_every_repeated_parameter_has_a_limit(api: httpx.AsyncClient) -> None:
    document = (await api.get("http://farm.test/openapi.json")).json()
    parameters = [
        parameter
        for path in document["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
    ]
    shapes = [
        shape
        for parameter in parameters
        for shape in (parameter["schema"], *parameter["schema"].get("anyOf", ()))
    ]
    assert any(shape.get("type") == "array" for shape in shapes)
    assert all("maxItems" in shape for shape in shapes if shape.get("type") == "array")


@pytest.mark.parametrize("kind", ["body", "query"])
async def test_an_answer_names_at_most_100_errors(api: httpx.AsyncClient, kind: str) -> None:
    names = {f"a{n}": "x" for n in range(50_000 if kind == "body" else 5_000)}
    answer = await (
        api.post("/leases", json={**LEASE, **names}) if kind == "body" else api.get("/users", params=names)
    )
    problem = assert_problem(answer, 422, "invalid-request")
    assert len(problem["errors"]) == 100
