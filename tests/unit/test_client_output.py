import json
import sys
from typing import Any

import pytest

from botfarm_client.commands.leases.views import print_lease, print_leases, without_passwords
from botfarm_client.commands.shared.output import (
    Columns,
    counted,
    print_fields,
    print_json,
    print_table,
)
from botfarm_client.shared.control_characters import escape_control_characters

LEASE: dict[str, Any] = {
    "id": "L1",
    "project_id": "P1",
    "env": "stage",
    "domain": "regular",
    "owner": "\x1b[31mci",
    "metadata": {"job": "7"},
    "acquired_at": "2026-11-23T15:34:25Z",
    "expires_in": 890.0,
    "hold_until": "2026-11-24T03:34:25Z",
    "ended_at": None,
    "ended_by": None,
    "outcome": None,
    "users": [{"id": "U1", "login": "a@x.test", "password": "hunter2", "labels": {"team": "red"}}],
}
COLUMNS: Columns = {"name": lambda item: item["name"], "id": lambda item: item["id"]}


def test_without_a_terminal_a_table_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [{"name": "a\nb", "id": 1}, {"name": None, "id": 22}])
    assert capsys.readouterr().out == "NAME  ID\na\\nb  1\n      22\n"


def test_on_a_terminal_an_id_stays_in_one_piece(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    identifier = "0068cbd8-e11a-4151-8c8c-659b33b2fa19"
    print_table(COLUMNS, [{"name": "word " * 30 + "[red]", "id": identifier}])
    shown = capsys.readouterr().out
    assert identifier in shown
    assert "[red]" in shown
    assert len(shown.splitlines()) > 3, "the long text is folded"


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"login": "a@x.test", "owner": None, "id": 0, "note": ""})
    assert capsys.readouterr().out == "login  a@x.test\nid     0\n"


def test_json_is_one_document_in_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"owner": "é\x9b"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert json.loads(shown) == {"owner": "é\x9b"}


def test_control_characters_are_shown_and_not_obeyed() -> None:
    assert escape_control_characters("é\x1b[2J\r\x9b\u202e") == "é\\x1b[2J\\r\\x9b\\u202e"


def test_a_lease_is_listed_without_its_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    print_leases([LEASE], {"P1": "shop"})
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["PROJECT", "ENV", "DOMAIN", "USERS", "OWNER", "TAKEN", "ENDS", "ID"]
    assert "in 14m50s" in row
    assert "\\x1b[31mci" in row
    assert "hunter2" not in row
    assert "password" not in without_passwords(LEASE)["users"][0]
    assert LEASE["users"][0]["password"] == "hunter2"


def test_a_lease_is_shown_with_the_passwords_that_the_farm_gives(capsys: pytest.CaptureFixture[str]) -> None:
    print_lease(LEASE, project="shop")
    shown = capsys.readouterr().out
    assert "hunter2" in shown
    assert "renewable until" in shown
    ended = {**without_passwords(LEASE), "ended_at": "2026-11-23T15:40:00Z", "ended_by": "forced"}
    print_lease(ended, project="shop")
    shown = capsys.readouterr().out
    assert "PASSWORD" not in shown
    assert "forced" in shown
    assert "renewable until" not in shown


def test_numbers_and_their_nouns() -> None:
    assert [counted(number, "user") for number in (0, 1, 2)] == ["0 users", "1 user", "2 users"]
