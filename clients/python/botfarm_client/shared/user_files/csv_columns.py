"""The columns of CSV: which fields of a user each one holds."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from botfarm_client.shared.user_files.csv_rows import Row
from botfarm_client.shared.user_files.records import (
    LABEL,
    OPTIONAL,
    REQUIRED,
    BadLine,
    Reading,
    UserFileError,
    is_field,
)


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    fields: tuple[str, ...]
    """None for a column without a name, and for one that is passed over."""


class ColumnNames:
    """What the names of columns mean, in any case: the names that are mapped come first, then the fields' own."""

    def __init__(self, reading: Reading) -> None:
        self._given = reading.given
        self._mapped = {field: _folded(column) for field, column in reading.columns.items()}
        self._typed = dict(reading.columns)

    def is_column(self, typed: str) -> bool:
        return _folded(typed) in self._mapped.values() or _field(typed) in {*REQUIRED, *OPTIONAL}

    def read(self, first: Row | BadLine | None) -> list[Column]:
        """The columns of the first row.

        Raises UserFileError. Its message repeats names only if they are names: without such a row they are values.
        """
        names = [name.strip() for name in first[1]] if isinstance(first, tuple) else []
        while names and not names[-1]:
            names.pop()
        columns = [Column(name, self._fields(name)) for name in names]
        found = {field for column in columns for field in column.fields}
        self._require(found)
        self._refuse_unknown(columns)
        self._require_project(found)
        return columns

    def _fields(self, name: str) -> tuple[str, ...]:
        mapped = tuple(field for field, column in self._mapped.items() if column == _folded(name))
        own = _field(name)
        return mapped or ((own,) if is_field(own) and own not in self._mapped else ())

    def _require(self, found: Collection[str]) -> None:
        for field, typed in self._typed.items():
            if field not in found:
                raise UserFileError(
                    f"the first row names no column {typed!r}, which {field} was to be read from"
                )
        missing = [name for name in REQUIRED if name not in found and name not in self._given]
        if missing:
            for_all = " and ".join(name for name in missing if name in {"env", "domain"})
            hint = f"; {for_all} can be given for all lines" if for_all else ""
            raise UserFileError(
                f"the first row must name the columns, in UTF-8 or UTF-16: {', '.join(missing)} not found "
                f"(columns of other names can be mapped{hint})"
            )

    def _refuse_unknown(self, columns: Sequence[Column]) -> None:
        counted = Counter(field for column in columns for field in column.fields)
        for number, column in enumerate(columns, start=1):
            if column.name and not column.fields and not self._mapped:
                raise UserFileError(
                    f"column {number} is called {column.name!r}: only {LABEL}NAME can be added, "
                    "unless columns are mapped"
                )
            if any(counted[field] > 1 for field in column.fields):
                raise UserFileError(f"there are two columns called {column.name!r}")

    def _require_project(self, found: Collection[str]) -> None:
        if not {"project", "project_id"} & {*found, *self._given}:
            raise UserFileError(
                "there is no column project or project_id: add one, or give the project for rows that name none"
            )


def _field(typed: str) -> str:
    """The name of a column, in lower case. The name of a label keeps its case."""
    name = typed.strip()
    if name[: len(LABEL)].lower() == LABEL:
        return LABEL + name[len(LABEL) :]
    return name.lower()


def _folded(typed: str) -> str:
    return typed.strip().casefold()
