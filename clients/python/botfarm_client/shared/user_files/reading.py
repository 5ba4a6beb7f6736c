"""Reads users from CSV or JSON lines."""

from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import Any

from typing_extensions import override

from botfarm_client.shared.json_objects import json_object
from botfarm_client.shared.user_files.csv_columns import Column, ColumnNames
from botfarm_client.shared.user_files.csv_rows import Row, rows_of
from botfarm_client.shared.user_files.file_text import format_of, is_unicode, text_of
from botfarm_client.shared.user_files.records import (
    LABEL,
    REQUIRED,
    BadLine,
    Format,
    Reading,
    Record,
    UserFileError,
)


class UserFile(Iterator[Record | BadLine]):
    """The records of a file. Raises UserFileError at the first one if the file as a whole cannot be read."""

    def __init__(
        self, file: BufferedReader, name: str, reading: Reading, *, file_format: Format | None = None
    ) -> None:
        self._reading = reading
        self.passed_over: list[str] = []
        """The columns that no field is read from, once the first record was read."""
        is_csv = (file_format or format_of(name, file)) is Format.CSV
        self._records = self._of_csv(file) if is_csv else self._of_json_lines(file)

    @override
    def __next__(self) -> Record | BadLine:
        return next(self._records)

    def _of_csv(self, file: BufferedReader) -> Iterator[Record | BadLine]:
        names = ColumnNames(self._reading)
        with text_of(file, newline="") as text:
            rows = rows_of(text, is_column=names.is_column)
            columns = names.read(next(rows, None))
            self.passed_over = [column.name for column in columns if column.name and not column.fields]
            for row in rows:
                yield self._of_row(row, columns)

    def _of_row(self, row: Row | BadLine, columns: Sequence[Column]) -> Record | BadLine:
        if isinstance(row, BadLine):
            return row
        line, cells = row
        while len(cells) > len(columns) and not cells[-1]:  # spreadsheets add such cells
            cells = cells[:-1]
        if len(cells) != len(columns):
            return BadLine(line, "", "too-few-columns" if len(cells) < len(columns) else "too-many-columns")
        found: dict[str, str] = {}
        for column, cell in zip(columns, cells, strict=True):
            if cell and not column.name:
                return BadLine(line, "", "too-many-columns")
            if column.fields and not is_unicode(cell):
                return BadLine(line, column.fields[0], "not-utf-8")
            found.update(dict.fromkeys(column.fields, cell))
        return self._record(line, found)

    def _record(self, line: int, found: dict[str, str]) -> Record | BadLine:
        given = self._reading.given
        user: dict[str, Any] = {
            name: found[name] for name in REQUIRED if found.get(name) or name not in given
        }
        user |= {name: found[name] for name in ("project", "project_id", "totp_seed") if found.get(name)}
        for name in ("labels", "secrets"):
            if found.get(name):
                value = json_object(found[name])
                if value is None:
                    return BadLine(line, name, "not-a-json-object")
                user[name] = value
        return Record(line, self._with_given(_with_labels(user, found)))

    def _of_json_lines(self, file: BufferedReader) -> Iterator[Record | BadLine]:
        """Blank lines are skipped."""
        if self._reading.columns:
            raise UserFileError(
                "these are JSON lines, whose fields have the names of the farm: map columns of CSV"
            )
        with text_of(file, newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                user = json_object(line)
                if user is None:
                    yield BadLine(number, "", "not-a-json-object")
                else:
                    yield Record(number, self._with_given(user))

    def _with_given(self, user: dict[str, Any]) -> dict[str, Any]:
        """The env and domain for users that name none; the project's id is looked up later."""
        given = {name: self._reading.given[name] for name in ("env", "domain") if name in self._reading.given}
        return {**given, **user}


def _with_labels(user: dict[str, Any], found: dict[str, str]) -> dict[str, Any]:
    """The labels of a row. An empty cell gives no label."""
    labels = user.get("labels", {}) | {
        name.removeprefix(LABEL): cell for name, cell in found.items() if name.startswith(LABEL) and cell
    }
    return {**user, "labels": labels} if labels else user
