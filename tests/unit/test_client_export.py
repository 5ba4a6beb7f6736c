"""`botfarm users export`: what it asks for, where it writes, and where it refuses to."""

import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.fake_farm import PROJECT_ID, FakeFarm, problem

EXPORT = ("users", "export")
ANN: dict[str, Any] = {
    "login": "ann@shop.test",
    "project": "shop",
    "env": "stage",
    "domain": "regular",
    "labels": {"team": "red"},
    "credentials": None,
}
CREDENTIALS = {"password": "hunter2", "secrets": {"pin": 7}, "totp_seed": "JBSW"}


def page(*users: dict[str, Any], more: str | None = None) -> dict[str, Any]:
    return {"items": list(users), "next_cursor": more}


def test_without_credentials_the_users_are_shown_as_csv() -> None:
    farm = FakeFarm({"POST /users/export": page(ANN)})
    options = ("--project", "shop", "--env", "stage", "--state", "free", "--label", "team=red")
    assert farm.run(*EXPORT, *options).out.splitlines() == [
        "login,env,domain,project,labels",
        'ann@shop.test,stage,regular,shop,"{""team"": ""red""}"',
    ]
    asked = {"project_id": PROJECT_ID, "env": "stage", "state": "free", "labels": {"team": "red"}}
    assert farm.body_of("POST /users/export") == asked


def test_json_lines_go_to_a_file_that_only_its_owner_may_read(tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    farm = FakeFarm({"POST /users/export": page({**ANN, "credentials": CREDENTIALS})})
    done = farm.run(*EXPORT, str(path), "--with-credentials")
    assert path.read_text() == (
        '{"login": "ann@shop.test", "env": "stage", "domain": "regular", "project": "shop", '
        '"labels": {"team": "red"}, "password": "hunter2", "secrets": {"pin": 7}, "totp_seed": "JBSW"}\n'
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert done.out == f"Exported 1 user to {path}.\n"
    assert "passwords in clear" in done.err
    assert "hunter2" not in done.out + done.err
    assert farm.body_of("POST /users/export") == {"credentials": True}


def test_json_is_one_document(tmp_path: Path) -> None:
    farm = FakeFarm({"POST /users/export": page(ANN)})
    assert farm.run(*EXPORT, "--json").json == {"items": [ANN]}
    path = tmp_path / "users.csv"
    assert farm.run(*EXPORT, str(path), "--json").json == {"exported": 1, "file": str(path)}
    assert path.read_text().startswith("login,")


def test_all_pages_are_written() -> None:
    pages = [page(ANN, more="one"), page(more="two"), page({**ANN, "login": "bob@shop.test"})]
    farm = FakeFarm()
    farm._answers["POST /users/export"] = None
    bodies = []

    def handle(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        return httpx.Response(200, json=pages[len(bodies) - 1])

    farm._handle = handle  # type: ignore[method-assign]
    assert [line.partition(",")[0] for line in farm.run(*EXPORT).out.splitlines()] == [
        "login",
        "ann@shop.test",
        "bob@shop.test",
    ]
    assert bodies == [b"{}", b'{"cursor": "one"}', b'{"cursor": "two"}']


def test_credentials_are_not_shown_unless_that_is_said() -> None:
    farm = FakeFarm({"POST /users/export": page({**ANN, "credentials": CREDENTIALS})})
    refused = farm.run(*EXPORT, "--with-credentials", exit_code=2)
    assert "name a file" in refused.err
    assert farm.asked == []
    assert "hunter2" in farm.run(*EXPORT, "-", "--with-credentials").out


def test_a_terminal_is_shown_no_credentials_and_no_control_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botfarm_client.commands.users.export_command.on_terminal", lambda: True)
    hostile = {**ANN, "labels": {"a": "\x9b2J"}}
    farm = FakeFarm({"POST /users/export": page(hostile)})
    assert "\x9b" not in farm.run(*EXPORT).out
    farm.run(*EXPORT, "-", "--with-credentials", exit_code=2)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("mine")
    farm = FakeFarm({"POST /users/export": page(ANN)})
    assert "it is there already" in farm.run(*EXPORT, str(path), exit_code=2).err
    assert path.read_text() == "mine"


@pytest.mark.parametrize("at", [1, 2])
def test_after_an_error_no_file_is_left(tmp_path: Path, at: int) -> None:
    admins = {**ANN, "credentials": CREDENTIALS}
    answers: list[Any] = [page(admins, more="one"), page(admins)]
    answers[at - 1 :] = [problem(403, "forbidden", "An export with credentials needs the role admin.")]
    asked = iter(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        answer = next(asked)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    farm = FakeFarm()
    farm._handle = handle  # type: ignore[method-assign]
    refused = farm.run(*EXPORT, str(tmp_path / "users.csv"), "--with-credentials", exit_code=1)
    assert "needs the role admin" in refused.err
    assert list(tmp_path.iterdir()) == []
