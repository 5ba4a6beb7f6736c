import json
from typing import Any

import httpx

from botfarm_client.commands.users.import_upload import Imported, UserImport
from botfarm_client.connection.connection import Connection
from botfarm_client.shared.user_files.records import BadLine, Record

SHOP = "11111111-1111-1111-1111-111111111111"
OTHER = "22222222-2222-2222-2222-222222222222"


class Farm:
    """A farm that answers an import as told and keeps the lines that it got."""

    def __init__(self, answer: httpx.Response) -> None:
        self.lines: list[Any] = []
        self.query = ""
        self._answer = answer

    def handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/projects"):
            return httpx.Response(200, json={"items": [{"name": "shop", "id": SHOP}]})
        assert request.headers["content-type"] == "application/x-ndjson"
        self.query = request.url.query.decode()
        self.lines = [json.loads(line) for line in request.read().splitlines()]
        return self._answer

    def run(
        self, *records: Record | BadLine, default_project: str | None = None, on_error: str = "skip"
    ) -> Imported:
        transport = httpx.MockTransport(self.handle)
        with Connection("http://farm.test", "token", transport=transport) as farm:
            users = UserImport(farm, default_project=default_project, on_chunk=lambda _size: None)
            return users.run(records, on_error=on_error)


def created(number: int, *errors: dict[str, object]) -> httpx.Response:
    return httpx.Response(200, json={"created": number, "skipped": len(errors), "errors": errors})


def test_projects_are_sent_by_their_ids() -> None:
    farm = Farm(created(4))
    farm.run(
        Record(1, {"login": "a", "project": "shop"}),
        Record(2, {"login": "b", "project": OTHER}),
        Record(3, {"login": "c", "project_id": SHOP}),
        Record(4, {"login": "d"}),
        default_project=OTHER,
    )
    assert [line["project_id"] for line in farm.lines] == [SHOP, OTHER, SHOP, OTHER]
    assert not [line for line in farm.lines if "project" in line]


def test_secrets_and_seeds_are_sent_as_they_are() -> None:
    farm = Farm(created(1))
    user = {"login": "a", "project_id": SHOP, "secrets": {"pin": 7}, "totp_seed": "JBSW"}
    farm.run(Record(1, user))
    assert farm.lines == [user]


def test_a_line_that_is_known_to_be_bad_still_counts() -> None:
    """A placeholder that the farm refuses takes its place, and the farm's error for it is not shown."""
    placeholder_errors = [{"line": 2, "field": name, "code": "missing"} for name in ("login", "password")]
    farm = Farm(created(1, *placeholder_errors, {"line": 3, "field": "login", "code": "invalid"}))
    imported = farm.run(
        Record(2, {"login": "a", "project": "shop"}),
        BadLine(5, "", "broken-quotes"),
        Record(9, {"login": "b", "project": "shop"}),
    )
    assert farm.lines[1] == {}
    assert imported == Imported(1, [BadLine(5, "", "broken-quotes"), BadLine(9, "login", "invalid")])
    assert imported.bad_count == 2


def test_both_lines_of_an_account_are_those_of_the_file() -> None:
    error = {"line": 2, "field": "login", "code": "duplicate", "earlier_line": 1}
    imported = Farm(created(1, error)).run(
        Record(4, {"login": "a", "project": "shop"}), Record(9, {"login": "A", "project": "shop"})
    )
    assert imported == Imported(1, [BadLine(9, "login", "duplicate", 4)])


def test_invalid_projects_are_bad_lines() -> None:
    farm = Farm(created(0))
    imported = farm.run(
        Record(1, {"project": "nowhere"}),
        Record(2, {}),
        Record(3, {"project": "shop", "project_id": SHOP}),
        Record(4, {"project": 7}),
        Record(5, {"project": "shop", "password": "x" * 1_100_000}),
        Record(6, {"project": "shop", "secrets": {"a": "x" * 262_144}}),
    )
    assert farm.lines == [{}] * 6
    assert imported.bad_lines == [
        BadLine(1, "project", "no-such-project"),
        BadLine(2, "project", "missing"),
        BadLine(3, "project", "also-project_id"),
        BadLine(4, "project", "no-such-project"),
        BadLine(5, "", "too-large"),
        BadLine(6, "secrets", "too-large"),
    ]


def test_a_refused_import_is_an_answer_and_not_a_problem() -> None:
    errors = [{"line": 2, "field": "env", "code": "enum"}, {"line": 2, "field": "domain", "code": "enum"}]
    problem = {"type": "urn:botfarm:problem:invalid-request", "detail": "no", "errors": errors}
    farm = Farm(httpx.Response(422, json=problem))
    records = [Record(line, {"login": "a", "project": "shop"}) for line in (3, 40)]
    imported = farm.run(*records, on_error="fail")
    assert farm.query == "on_error=fail"
    assert imported == Imported(0, [BadLine(40, "env", "enum"), BadLine(40, "domain", "enum")])
    assert imported.bad_count == 1


def test_many_lines_go_out_in_chunks() -> None:
    farm = Farm(created(10_000))
    farm.run(*(Record(line, {"login": "a" * 50, "project": "shop"}) for line in range(10_000)))
    assert len(farm.lines) == 10_000
