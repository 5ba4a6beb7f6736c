"""The users of a file as records, each with the line of the file that it begins on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from botfarm_client.shared.ids import is_id

REQUIRED = ("login", "password", "env", "domain")
OPTIONAL = ("project", "project_id", "labels", "secrets", "totp_seed")
LABEL = "label."


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


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read."""

    given: Mapping[str, str] = field(default_factory=dict)
    """The project, env and domain of users whose record names none."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """The names of columns by the fields that they hold, where the file has names of its own."""


def is_field(name: str) -> bool:
    """Whether a column may be called so."""
    return name in {*REQUIRED, *OPTIONAL} or (name.startswith(LABEL) and name != LABEL)


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
