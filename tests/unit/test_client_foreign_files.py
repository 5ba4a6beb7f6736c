"""Files that other programs write: Excel, PowerShell, and five password managers."""

import gc
from collections.abc import Mapping
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, cast

import pytest

from botfarm_client.shared.user_files.reading import UserFile
from botfarm_client.shared.user_files.records import BadLine, Reading, Record, UserFileError

GIVEN = {"project": "shop", "env": "stage", "domain": "regular"}
POOL = {"env": "stage", "domain": "regular"}
SEED = "otpauth://totp/Shop:me?secret=JBSWY3DPEHPK3PXP&period=30&digits=6&issuer=Shop"


def file_of(content: str | bytes, columns: Mapping[str, str], name: str = "users.csv") -> UserFile:
    raw = BytesIO(content.encode() if isinstance(content, str) else content)
    return UserFile(BufferedReader(cast("Any", raw)), name, Reading(GIVEN, columns))


def only(users: UserFile) -> dict[str, Any]:
    (record,) = users
    assert isinstance(record, Record), record
    return record.user


@pytest.mark.parametrize(
    ("content", "columns", "passed_over"),
    [
        (
            (
                "Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes\n"
                f"shop,https://shop.test/,me@x.test,p,{SEED},false,false,,\n"
            ),
            {"login": "Username", "totp_seed": "OTPAuth"},
            ["Title", "Url", "Favorite", "Archived", "Tags", "Notes"],
        ),
        (
            (
                "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp\n"
                f'e2e,,login,Shop,"two\nlines",,0,https://shop.test,me@x.test,p,{SEED}\n'
            ),
            {"login": "login_username", "password": "login_password", "totp_seed": "login_totp"},
            ["folder", "favorite", "type", "name", "notes", "fields", "reprompt", "login_uri"],
        ),
        (
            "name,url,username,password,note\nshop.test,https://shop.test/,me@x.test,p,\n",
            {"login": "username"},
            ["name", "url", "note"],
        ),
        (
            f"Title,URL,Username,Password,Notes,OTPAuth\nshop,https://shop.test/,me@x.test,p,,{SEED}\n",
            {"login": "username", "totp_seed": "otpauth"},
            ["Title", "URL", "Notes"],
        ),
        (
            (
                '"Group","Title","Username","Password","URL","Notes","TOTP","Icon","Last Modified","Created"\n'
                f'"Root","shop","me@x.test","p","https://shop.test","","{SEED}","0","2026-01-02","2026-01-01"\n'
            ),
            {"login": "Username", "totp_seed": "TOTP"},
            ["Group", "Title", "URL", "Notes", "Icon", "Last Modified", "Created"],
        ),
    ],
    ids=["1password", "bitwarden", "chrome", "apple", "keepassxc"],
)
def test_the_export_of_a_password_manager_is_read_and_the_other_columns_are_named(
    content: str, columns: dict[str, str], passed_over: list[str]
) -> None:
    users = file_of(content, columns)
    found = only(users)
    seed = {"totp_seed": SEED} if "totp_seed" in columns else {}
    assert found == {"login": "me@x.test", "password": "p", **POOL, **seed}
    assert users.passed_over == passed_over


def test_a_column_may_become_a_label_and_several_fields() -> None:
    users = file_of(
        "User,Password,Group\nme,p,red\n", {"login": "user", "label.name": "USER", "label.Team": "group"}
    )
    assert only(users) == {"login": "me", "password": "p", **POOL, "labels": {"name": "me", "Team": "red"}}
    assert users.passed_over == []


def test_a_column_that_is_mapped_goes_before_the_one_that_has_the_name() -> None:
    users = file_of("login,password,mail,x,x\nold,p,me@x.test,1,2\n", {"login": "mail"})
    assert only(users)["login"] == "me@x.test"
    assert users.passed_over == ["login", "x", "x"]


def test_what_is_passed_over_may_be_of_any_kind() -> None:
    content = b"Username,Password,Notes\nme@x.test,p,caf\xe9\nyou@x.test,caf\xe9,\n"
    first, second = file_of(content, {"login": "Username"})
    assert isinstance(first, Record)
    assert second == BadLine(3, "password", "not-utf-8")


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("hunter2@x.test,hunter2\n", {"login": "Username"}, "names no column 'Username', which login"),
        ("Username,Pass\nme,p\n", {"login": "Username"}, "password not found .columns of other names"),
        ("Username,Password,username\nme,p,q\n", {"login": "Username"}, "two columns called 'Username'"),
        (
            "login,password,URL\nme,p,q\n",
            {},
            "'URL': only label.NAME can be added, unless columns are mapped",
        ),
        ('{"login": "me"}\n', {"login": "Username"}, "map columns of CSV"),
    ],
)
def test_a_mapping_that_does_not_fit_is_said_and_no_value_repeated(
    content: str, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(UserFileError, match=message) as raised:
        list(file_of(content, columns, name="-"))
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("login\tpassword\r\nme@x.test\tcafé\r\n", "users.txt"),
        ('{"login": "me@x.test", "password": "café"}\r\n', "-"),
    ],
    ids=["spreadsheet", "json lines"],
)
def test_files_of_excel_and_powershell_are_read_in_their_encoding(
    encoding: str, text: str, name: str
) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    assert only(file_of(mark + text.encode(encoding), {}, name)) == {
        "login": "me@x.test",
        "password": "café",
        **POOL,
    }


@pytest.mark.parametrize("name", ["users.csv", "users.jsonl"])
def test_half_a_character_spoils_its_own_line(name: str) -> None:
    text = "login,password\nyou,p\nme,café" if name == "users.csv" else '{"login": "you"}\n{"login": "mé"}'
    content = text.encode("utf-16")
    cut = content[:-1] if name == "users.csv" else content[:-5] + content[-4:]
    good, *bad = file_of(cut, {}, name)
    assert isinstance(good, Record)
    assert [type(each) for each in bad] == [BadLine]


def test_a_file_that_is_closed_before_its_end_leaves_no_error_behind(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("login,password\n" + "me@x.test,p\n" * 100_000)
    with path.open("rb") as file:
        users = UserFile(file, path.name, Reading(GIVEN))
        next(users)
    del users
    gc.collect()  # an error here would be a warning, which fails a test


@pytest.mark.parametrize("first_line", ["sep=;", "sep=\t"])
def test_the_delimiter_is_found_by_the_names_that_are_mapped(first_line: str) -> None:
    delimiter = first_line[-1]
    rows = ["Title, with, many, commas", "Benutzer", "Kennwort"], ["a", "me@x.test", "p,;q"]
    text = "\r\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    for start in ("", f"{first_line}\r\n"):
        users = file_of(start + text, {"login": "Benutzer", "password": "kennwort"})
        assert only(users) == {"login": "me@x.test", "password": "p,;q", **POOL}
