"""Reads users from CSV or JSON lines: records, each with the line of the file that it begins on."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from io import BufferedReader, TextIOWrapper
from typing import Any

from typing_extensions import override

from botfarm_client.shared.ids import is_id
from botfarm_client.shared.json_objects import json_object

REQUIRED = ("login", "password", "env", "domain")
OPTIONAL = ("project", "project_id", "labels", "secrets", "totp_seed")
LABEL = "label."
DELIMITERS = ",;\t"
MAX_CELL = 67_108_864
"""Characters. A whole import has no more bytes, so a longer cell has a quote that is never closed."""
MAX_RECORD_LINES = 5_000
"""Of one record, because a quote that is never closed takes all lines up to here, and they are read again."""
_MARK = b"\xef\xbb\xbf"
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])\1*"?[,;\s]*', re.IGNORECASE)
"""Excel reads it in the first line, and writes it back with further delimiters."""


class UserFileError(Exception):
    """The file as a whole cannot be read: the message says why and what to do, and repeats no value."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class BadLine:
    """An error in a line. It never holds the line's values, which may be secrets."""

    line: int
    field: str
    code: str
    earlier_line: int | None = None
    """The first line of the same account, where that is the error."""

    def shown(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Record:
    line: int
    user: dict[str, Any] = field(repr=False)


def format_of(name: str, file: BufferedReader) -> Format:
    """The format, by the ending of the file's name, else by the first character."""
    ending = name.lower().rpartition(".")[2]
    if ending == "csv":
        return Format.CSV
    if ending in {"jsonl", "ndjson"}:
        return Format.JSONL
    start = file.peek(1024).removeprefix(_MARK).lstrip()[:1]
    if start == b"[":
        raise UserFileError("this is one JSON array: give one object a line (`jq -c '.[]'` makes that of it)")
    return Format.JSONL if start == b"{" else Format.CSV


def read_json_lines(file: Iterable[bytes]) -> Iterator[Record | BadLine]:
    """The records of JSON lines. Blank lines are skipped."""
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_MARK) if number == 1 else line
        if not text.strip():
            continue
        user = json_object(text)
        yield BadLine(number, "", "not-a-json-object") if user is None else Record(number, user)


def with_project_id(
    record: Record, projects: Mapping[str, str], default_project: str | None
) -> Record | BadLine:
    """Replaces the project's name by its id, as the API requires. `projects` are ids by name."""
    user = dict(record.user)
    named = user.pop("project", None)
    if user.get("project_id"):
        return BadLine(record.line, "project", "also-project_id") if named else Record(record.line, user)
    chosen = named or default_project
    if chosen is None:
        return BadLine(record.line, "project", "missing")
    project_id = projects.get(chosen) if isinstance(chosen, str) else None
    if project_id is None and not (isinstance(chosen, str) and is_id(chosen)):
        return BadLine(record.line, "project", "no-such-project")
    return Record(record.line, {**user, "project_id": project_id or chosen})


def read_csv(file: BufferedReader, *, given: Collection[str] = ()) -> Iterator[Record | BadLine]:
    """The records of CSV. Raises UserFileError if the first row does not name the columns.

    `given` are the fields that need no column, because the caller has a value for rows without one.
    """
    # Invalid UTF-8 becomes lone surrogates, so that it spoils one line and not the whole file.
    text = TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        lines = _Lines(text)
        rows = _rows(lines, delimiter=_delimiter(lines))
        columns = _columns(next(rows, None), given)
        for row in rows:
            yield _record(row, columns, given)
    finally:
        text.detach()  # the caller closes the file


class _Lines(Iterator[str]):
    """Numbered lines that can be put back, so that a quote that is never closed spoils only its own line."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._waiting: list[str] = []
        self.taken: list[str] = []
        """The lines of the current record."""
        self.count = 0

    @override
    def __next__(self) -> str:
        if len(self.taken) == MAX_RECORD_LINES:
            raise csv.Error("a record of too many lines")
        line = self._waiting.pop() if self._waiting else next(self._lines)
        self.count += 1
        self.taken.append(line)
        return line

    def put_back(self, lines: list[str]) -> None:
        self._waiting.extend(reversed(lines))
        self.count -= len(lines)

    def put_back_all_but_the_first(self) -> None:
        self.put_back(self.taken[1:])


def _delimiter(lines: _Lines) -> str:
    """The delimiter that a first line `sep=` names (it is consumed), or that yields most known names."""
    first = next(lines, "")
    said = _SEPARATOR.fullmatch(first)
    if said:
        return said[1]
    passed = [first]
    while passed[-1] and not passed[-1].strip(f'{DELIMITERS}" \r\n'):
        passed.append(next(lines, ""))
    lines.put_back([line for line in passed if line])
    return max(DELIMITERS, key=lambda delimiter: _known_names(passed[-1], delimiter))


def _known_names(line: str, delimiter: str) -> int:
    try:
        names = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return 0
    return sum(_column(name) in {*REQUIRED, *OPTIONAL} for name in names)


def _column(typed: str) -> str:
    """The name of a column, in lower case. The name of a label keeps its case."""
    name = typed.strip()
    if name[: len(LABEL)].lower() == LABEL:
        return LABEL + name[len(LABEL) :]
    return name.lower() if name.lower() in {*REQUIRED, *OPTIONAL} else name


def _rows(lines: _Lines, *, delimiter: str) -> Iterator[tuple[int, list[str]] | BadLine]:
    """The rows. Empty rows are skipped, because spreadsheets write them below the last one."""
    csv.field_size_limit(MAX_CELL)  # for the whole process, which reads no other CSV
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.taken.clear()
        line = lines.count + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            too_large = len(lines.taken[0]) > MAX_CELL
            lines.put_back_all_but_the_first()
            yield BadLine(line, "", "too-large" if too_large else "broken-quotes")
            continue
        if any(cell.strip() for cell in row):
            yield line, row


def _columns(first: tuple[int, list[str]] | BadLine | None, given: Collection[str]) -> list[str]:
    """Checks the names of columns.

    An error repeats them only if they are names: without such a row they are values.
    """
    names = [_column(name) for name in first[1]] if isinstance(first, tuple) else []
    while names and not names[-1]:
        names.pop()
    missing = [name for name in REQUIRED if name not in names and name not in given]
    if missing:
        raise UserFileError(f"the first row must name the columns, in UTF-8: {', '.join(missing)} not found")
    known = {*REQUIRED, *OPTIONAL}
    for number, name in enumerate(names, start=1):
        if not name:  # an empty column for layout, as long as its cells are empty too
            continue
        if name not in known and (name == LABEL or not name.startswith(LABEL)):
            raise UserFileError(f"column {number} is called {name!r}: only {LABEL}NAME can be added")
        if name in names[: number - 1]:
            raise UserFileError(f"there are two columns called {name!r}")
    if not {"project", "project_id"} & {*names, *given}:
        raise UserFileError(
            "there is no column project or project_id: add one, or give the project for rows that name none"
        )
    return names


def _record(
    row: tuple[int, list[str]] | BadLine, columns: list[str], given: Collection[str]
) -> Record | BadLine:
    if isinstance(row, BadLine):
        return row
    line, cells = row
    while len(cells) > len(columns) and not cells[-1]:  # spreadsheets add such cells
        cells = cells[:-1]
    if len(cells) != len(columns):
        return BadLine(line, "", "too-few-columns" if len(cells) < len(columns) else "too-many-columns")
    if any(cell for name, cell in zip(columns, cells, strict=True) if not name):
        return BadLine(line, "", "too-many-columns")
    for name, cell in zip(columns, cells, strict=True):
        if not _is_unicode(cell):
            return BadLine(line, name, "not-utf-8")
    found = dict(zip(columns, cells, strict=True))
    user: dict[str, Any] = {name: found[name] for name in REQUIRED if found.get(name) or name not in given}
    user |= {name: found[name] for name in ("project", "project_id", "totp_seed") if found.get(name)}
    for name in ("labels", "secrets"):
        if found.get(name):
            value = json_object(found[name])
            if value is None:
                return BadLine(line, name, "not-a-json-object")
            user[name] = value
    return Record(line, _with_labels(user, found))


def _with_labels(user: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
    """The labels of a row. An empty cell gives no label."""
    labels = user.get("labels", {}) | {
        name.removeprefix(LABEL): cell for name, cell in found.items() if name.startswith(LABEL) and cell
    }
    return {**user, "labels": labels} if labels else user


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
