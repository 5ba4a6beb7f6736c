"""Values with the blanks and marks that PowerShell, Notepad and forms of CI settings add."""

import codecs
from pathlib import Path

import pytest

from botfarm_client import Botfarm
from botfarm_client.connection.farm_settings import FarmSettings
from botfarm_client.testing import FakeFarm, FakeUser
from support import fake_farm

AROUND = [" {}", "{}\r\n", "\ufeff{}", "\t\ufeff{} \n"]
TOKEN = "a-token"


@pytest.mark.parametrize("around", AROUND)
def test_the_sdk_strips_variables(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeFarm([FakeUser("a@shop.test", "pw-a")]) as fake:
        for name, value in fake.environment.items():
            monkeypatch.setenv(name, around.format(value))
        with Botfarm() as farm, farm.lease() as lease:
            assert lease.user.login == "a@shop.test"


@pytest.mark.parametrize("around", AROUND)
def test_a_command_strips_the_variables_of_its_options(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTFARM_PROJECT", around.format("shop"))
    monkeypatch.setenv("BOTFARM_ENV", around.format("stage"))
    monkeypatch.setenv("BOTFARM_URL", around.format("http://127.0.0.1:8000"))
    farm = fake_farm.FakeFarm({"POST /leases": fake_farm.problem(404, "no-such-pool")})
    farm.run("leases", "acquire", exit_code=4)
    body = farm.body_of("POST /leases")
    assert (body["project"], body["env"]) == ("shop", "stage")


@pytest.mark.parametrize(
    "content",
    [
        f"{TOKEN}\r\n".encode(),
        codecs.BOM_UTF8 + f"{TOKEN}\r\n".encode(),
        codecs.BOM_UTF16_LE + f"{TOKEN}\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + f" {TOKEN}".encode("utf-16-be"),
    ],
    ids=["lines", "UTF-8", "PowerShell 5", "big-endian"],
)
def test_a_token_file_is_read_without_marks_and_line_ends(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_bytes(content)
    monkeypatch.delenv("BOTFARM_TOKEN", raising=False)
    monkeypatch.setenv("BOTFARM_TOKEN_FILE", f"{tmp_path / 'token'}\n")
    assert FarmSettings.of().credential == TOKEN


@pytest.mark.parametrize("around", AROUND)
def test_the_sdk_strips_arguments(around: str) -> None:
    url = "http://127.0.0.1:8000"
    given = {"project": "shop", "env": "stage", "domain": "express"}
    plain = FarmSettings.of(url, TOKEN, **given)
    dressed = {name: around.format(value) for name, value in given.items()}
    assert FarmSettings.of(around.format(url), around.format(TOKEN), **dressed) == plain


def test_an_argument_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTFARM_ENV", "stage")
    assert FarmSettings.of(token=TOKEN, env=" ").env == "stage"
