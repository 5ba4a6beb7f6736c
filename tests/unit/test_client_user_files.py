from collections.abc import Iterable, Mapping
from io import BufferedReader, BytesIO
from typing import Any, cast

import pytest

from botfarm_client.shared.json_objects import json_object
from botfarm_client.shared.user_files import csv_rows
from botfarm_client.shared.user_files.file_text import format_of
from botfarm_client.shared.user_files.reading import UserFile
from botfarm_client.shared.user_files.records import BadLine, Format, Reading, Record, UserFileError

PROJECT, NOTHING = {"project": "shop"}, dict[str, str]()
HEADER = b"login,password,env,domain\n"


def file_of(content: bytes) -> BufferedReader:
    return BufferedReader(cast("Any", BytesIO(content)))


def users_of(content: bytes, name: str, given: Mapping[str, str], columns: Mapping[str, str]) -> UserFile:
    return UserFile(file_of(content), name, Reading(given, columns))


def csv_of(
    content: bytes, *, given: Mapping[str, str] = PROJECT, columns: Mapping[str, str] = NOTHING
) -> list[Record | BadLine]:
    return list(users_of(content, "users.csv", given, columns))


def json_lines_of(content: bytes, *, given: Mapping[str, str] = PROJECT) -> list[Record | BadLine]:
    return list(users_of(content, "users.jsonl", given, {}))


def lines_of(records: Iterable[Record | BadLine]) -> list[int]:
    return [record.line for record in records]


def test_a_record_is_known_by_the_line_it_begins_on() -> None:
    rows = (
        b'\na@x.test,"two\nlines",stage,regular\n'
        b"\nb@x.test,p,stage,regular\r\n"
        b'c@x.test,"\r\n\n",stage,regular'
    )
    records = csv_of(HEADER + rows)
    assert lines_of(records) == [3, 6, 7]
    first, _, last = records
    assert isinstance(first, Record)
    assert first.user == {
        "login": "a@x.test",
        "password": "two\nlines",
        "env": "stage",
        "domain": "regular",
    }
    assert isinstance(last, Record)
    assert last.user["password"] == "\r\n\n"


def test_a_quote_that_is_never_closed_eats_only_its_own_line() -> None:
    rows = b'a@x.test,"open,stage,regular\nb@x.test,"closed",stage,regular\nc@x.test,p,stage,regular\n'
    bad, good, last = csv_of(HEADER + rows)
    assert bad == BadLine(2, "", "broken-quotes")
    assert isinstance(good, Record)
    assert (good.line, good.user["password"]) == (3, "closed")
    assert last.line == 4


def test_a_quote_that_is_open_at_the_end_of_a_long_file() -> None:
    rows = b'a@x.test,"open,stage,regular\n' + b"b@x.test,p,stage,regular\n" * 20_000
    records = csv_of(HEADER + rows)
    assert records[0] == BadLine(2, "", "broken-quotes")
    assert lines_of(records) == list(range(2, 20_003))
    assert not [record for record in records[1:] if isinstance(record, BadLine)]


def test_a_record_takes_a_limited_number_of_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each broken one might read the whole file again."""
    monkeypatch.setattr(csv_rows, "MAX_RECORD_LINES", 3)
    rows = b'a@x.test,"\n\n\n",stage,regular\nb@x.test,p,stage,regular\n'
    records = csv_of(HEADER + rows)
    assert records[0] == BadLine(2, "", "broken-quotes")
    assert isinstance(records[-1], Record)
    assert records[-1].line == 6


def test_rows_of_another_length_are_bad_unless_a_spreadsheet_filled_them_up() -> None:
    rows = b"a,p,stage\nb,p,stage,regular,more\nc,p,stage,regular,,\n"
    few, many, filled = csv_of(HEADER + rows)
    assert few == BadLine(2, "", "too-few-columns")
    assert many == BadLine(3, "", "too-many-columns")
    assert isinstance(filled, Record)


def test_labels_come_from_columns_and_from_json() -> None:
    header = b"login,password,env,domain,labels,label.team\n"
    rows = b'a,p,stage,regular,"{""role"": ""admin""}",red\nb,p,stage,regular,,\nc,p,stage,regular,[],x\n'
    both, none, bad = csv_of(header + rows)
    assert isinstance(both, Record)
    assert both.user["labels"] == {"role": "admin", "team": "red"}
    assert isinstance(none, Record)
    assert "labels" not in none.user
    assert bad == BadLine(4, "labels", "not-a-json-object")


def test_secrets_and_seeds_come_in_columns_of_their_own() -> None:
    header = b"login,password,env,domain,secrets,totp_seed\n"
    rows = b'a,p,stage,regular,"{""pin"": 7}",JBSW\nb,p,stage,regular,,\nc,p,stage,regular,{"hunter2",\n'
    both, none, bad = csv_of(header + rows)
    assert isinstance(both, Record)
    assert (both.user["secrets"], both.user["totp_seed"]) == ({"pin": 7}, "JBSW")
    assert isinstance(none, Record)
    assert {"secrets", "totp_seed"}.isdisjoint(none.user)
    assert bad == BadLine(4, "secrets", "not-a-json-object")


def test_a_line_that_is_not_utf_8_is_one_bad_line() -> None:
    bad, good = csv_of(HEADER + b"a,caf\xe9,stage,regular\nb,caf\xc3\xa9,stage,regular\n")
    assert bad == BadLine(2, "password", "not-utf-8")
    assert isinstance(good, Record)
    assert good.user["password"] == "café"


def test_fields_that_are_given_need_no_column_and_no_cell() -> None:
    given = {"project": "shop", "env": "prod", "domain": "regular"}
    (short,) = csv_of(b"login,password\na,p\n", given=given)
    assert user_of(short) == {"login": "a", "password": "p", "env": "prod", "domain": "regular"}
    named, empty = csv_of(HEADER + b"a,p,stage,canary\nb,,,\n", given=given)
    assert user_of(named) == {"login": "a", "password": "p", "env": "stage", "domain": "canary"}
    assert user_of(empty) == {"login": "b", "password": "", "env": "prod", "domain": "regular"}
    (line,) = json_lines_of(b'{"login": "a", "env": "stage"}', given=given)
    assert user_of(line) == {"login": "a", "env": "stage", "domain": "regular"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_of_spreadsheets_are_read(delimiter: str) -> None:
    text = "login, password ,env,domain,project\r\na@x.test,p,stage,regular,shop\r\n".replace(",", delimiter)
    (record,) = csv_of(text.encode("utf-8-sig"), given={})
    assert isinstance(record, Record)
    assert record.user["project"] == "shop"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n",
        b"hunter2@x.test,hunter2,stage,regular\n",
        "hunter2,hunter2\n".encode("utf-16"),
        "login,password,env,domain\n".encode("utf-16-le"),
    ],
)
def test_without_a_row_of_names_nothing_is_read_and_nothing_repeated(content: bytes) -> None:
    with pytest.raises(UserFileError, match="the first row must name the columns") as raised:
        csv_of(content)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"login,password,env,domain,color\n", "column 5 is called 'color'"),
        (b"login,password,env,domain,label.\n", "column 5"),
        (b"login,password,env,domain,env\n", "two columns called 'env'"),
        (b"login,password,env,domain\n", "no column project"),
    ],
)
def test_invalid_columns_are_named(header: bytes, message: str) -> None:
    with pytest.raises(UserFileError, match=message):
        csv_of(header, given={})


def test_json_lines_keep_their_numbers_past_blank_and_broken_ones() -> None:
    lines = [b'\xef\xbb\xbf{"login": "a"}', b"", b'{"login": ', b"[1]", b"[" * 100_000, b'{"a": "b"}']
    assert json_lines_of(b"\n".join(lines)) == [
        Record(1, {"login": "a"}),
        BadLine(3, "", "not-a-json-object"),
        BadLine(4, "", "not-a-json-object"),
        BadLine(5, "", "not-a-json-object"),
        Record(6, {"a": "b"}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("users.CSV", b"{", Format.CSV),
        ("users.jsonl", b"login", Format.JSONL),
        ("users.ndjson", b"", Format.JSONL),
        ("-", b'\xef\xbb\xbf\n {"login": 1}', Format.JSONL),
        ("users.txt", b"login,password", Format.CSV),
    ],
)
def test_the_format_is_told_by_the_name_or_the_first_character(
    name: str, content: bytes, expected: Format
) -> None:
    assert format_of(name, file_of(content)) is expected


def test_a_json_array_is_told_how_to_become_lines() -> None:
    with pytest.raises(UserFileError, match="one object a line"):
        format_of("-", file_of(b'[{"login": 1}]'))


def test_no_value_is_in_what_a_record_shows() -> None:
    (record,) = csv_of(HEADER + b"a@x.test,hunter2,stage,regular\n")
    assert "hunter2" not in repr(record)


def user_of(record: Record | BadLine) -> dict[str, Any]:
    assert isinstance(record, Record), record
    return record.user


def test_empty_columns_at_the_right_and_rows_without_content_count_for_nothing() -> None:
    content = (
        "\r\n;;;;;\r\nlogin;password;env;domain;;\r\na@x.test;p;stage;regular;;\r\n;;;;;\r\n ;;\r\n;;;;;\r\n"
    )
    (record,) = csv_of(content.encode("utf-8-sig"))
    assert record.line == 4
    assert user_of(record) == {"login": "a@x.test", "password": "p", "env": "stage", "domain": "regular"}


def test_empty_columns_between_others_count_for_nothing() -> None:
    (record,) = csv_of(b"login,,password, ,env,domain\na,,p,,stage,regular\n")
    assert user_of(record) == {"login": "a", "password": "p", "env": "stage", "domain": "regular"}


@pytest.mark.parametrize(
    "content",
    [
        b"login,password,env,domain,\na,p,stage,regular,x\n",
        b"login,password,,env,domain\na,p,x,stage,regular\n",
    ],
    ids=["right", "between"],
)
def test_a_value_below_no_name_is_a_bad_line(content: bytes) -> None:
    assert csv_of(content) == [BadLine(2, "", "too-many-columns")]


def test_names_of_columns_are_known_in_any_case_and_a_label_keeps_its_own() -> None:
    (record,) = csv_of(b"LOGIN,Password, Env ,dOMAIN,Totp_Seed,Label.Team\na,p,stage,regular,JBSW,red\n")
    assert user_of(record)["labels"] == {"Team": "red"}
    assert user_of(record)["totp_seed"] == "JBSW"
    with pytest.raises(UserFileError, match="two columns called 'env'"):
        csv_of(b"login,password,env,domain,ENV\n")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line", ["sep={}", "SEP={}", "sep={}{}{}", '"sep={}"'])
def test_the_first_line_may_say_the_delimiter(delimiter: str, line: str) -> None:
    text = "\r\n".join([line.replace("{}", delimiter), "login,password,env,domain", "a,p,stage,regular", "b"])
    records = csv_of(text.replace(",", delimiter).encode("utf-8-sig"))
    assert lines_of(records) == [3, 4]
    assert user_of(records[0])["password"] == "p"


@pytest.mark.parametrize(
    ("delimiter", "label"),
    [("\t", "label.note, long, with, commas, in, it"), (";", "label.a,b,c,d,e"), (",", '"label.x;y;z;u;v"')],
)
def test_the_delimiter_is_that_of_the_known_names(delimiter: str, label: str) -> None:
    header = delimiter.join(["login", "password", "env", "domain", label])
    row = delimiter.join(["a@x.test", "p,;q", "stage", "regular", "x"]).replace("p,;q", '"p,;q"')
    (record,) = csv_of(f"{header}\n{row}\n".encode())
    assert user_of(record)["password"] == "p,;q"
    assert list(user_of(record)["labels"].values()) == ["x"]


@pytest.mark.parametrize("size", [131_073, 250_000])
def test_a_cell_may_be_as_long_as_the_farm_takes_it(size: int) -> None:
    content = f'login,password,env,domain,secrets\na,p,stage,regular,"{{""a"": ""{"x" * size}""}}"\nb,"q\n'
    first, second = csv_of(content.encode())
    assert user_of(first)["secrets"] == {"a": "x" * size}
    assert second == BadLine(3, "", "broken-quotes")


def test_a_line_that_no_import_could_take_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_CELL", 100)
    rows = b"a," + b"x" * 200 + b',stage,regular\nb,"' + b"y\n" * 200 + b"c,p,stage,regular\n"
    records = csv_of(HEADER + rows)
    assert records[:2] == [BadLine(2, "", "too-large"), BadLine(3, "", "broken-quotes")]
    assert isinstance(records[-1], Record)


@pytest.mark.parametrize("number", ["1e400", "-1e999", "NaN", "Infinity"])
def test_numbers_that_json_does_not_have_are_bad_lines(number: str) -> None:
    (of_csv,) = csv_of(
        f'login,password,env,domain,secrets\na,p,stage,regular,"{{""a"": {number}}}"\n'.encode()
    )
    assert of_csv == BadLine(2, "secrets", "not-a-json-object")
    (of_lines,) = json_lines_of(f'{{"secrets": {{"a": [{number}]}}}}'.encode())
    assert of_lines == BadLine(1, "", "not-a-json-object")
    assert json_object(f'{{"a": {number}}}') is None
