"""Sends an import of users, and turns the line numbers of the answer into those of the file."""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botfarm_client.connection.api_calls import Json
from botfarm_client.errors import ProblemError
from botfarm_client.shared.user_files.records import BadLine, Record, with_project_id

if TYPE_CHECKING:
    from botfarm_client.connection.connection import Connection

CHUNK_BYTES = 65_536
# Bytes. The farm refuses the whole request for one longer line.
MAX_LINE_BYTES = 1_048_576
# Bytes of JSON. The farm's limit for one user.
MAX_SECRETS_BYTES = 262_144
# Seconds that the farm may take after the last line.
WORK_TIME = 600.0

# Sent in place of a line that is known to be bad, so that the farm counts it, and creates no user where
# one bad line must prevent all.
_PLACEHOLDER = b"{}\n"


@dataclass(frozen=True, slots=True)
class Imported:
    created: int
    bad_lines: list[BadLine]
    updated: int = 0
    unchanged: int = 0

    @property
    def bad_count(self) -> int:
        return len({bad.line for bad in self.bad_lines})


class UserImport:
    def __init__(
        self, farm: "Connection", *, default_project: str | None, on_chunk: Callable[[int], None]
    ) -> None:
        self._farm = farm
        self._projects = {project["name"]: project["id"] for project in farm.items("/projects")}
        self._default_project = default_project
        self._on_chunk = on_chunk
        self._lines = array("Q")  # the line in the file of each record, by its number from 0
        self._bad_lines: dict[int, BadLine] = {}

    def run(self, records: Iterable[Record | BadLine], *, on_error: str) -> Imported:
        counts: dict[str, int] = {}
        try:
            answer = self._farm.post_lines(
                "/users/import", self._chunks(records), wait=WORK_TIME, on_error=on_error
            )
        except ProblemError as problem:
            answer = problem.details
            if problem.slug != "invalid-request" or not _names_lines(answer):
                raise
        else:
            # A farm of the version before counts only the users that it has created.
            counts = {name: int(answer.get(name, 0)) for name in ("created", "updated", "unchanged")}
        return Imported(
            created=counts.get("created", 0),
            bad_lines=self._in_file_order(answer.get("errors") or []),
            updated=counts.get("updated", 0),
            unchanged=counts.get("unchanged", 0),
        )

    def _chunks(self, records: Iterable[Record | BadLine]) -> Iterator[bytes]:
        chunk = bytearray()
        for record in records:
            chunk += self._encoded(record)
            if len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                self._on_chunk(len(chunk))
                chunk.clear()
        yield bytes(chunk)
        self._on_chunk(len(chunk))

    def _encoded(self, record: Record | BadLine) -> bytes:
        self._lines.append(record.line)
        checked = record
        if isinstance(record, Record):
            checked = with_project_id(record, self._projects, self._default_project)
        if isinstance(checked, Record) and _has_too_large_secrets(checked):
            checked = BadLine(record.line, "secrets", "too-large")
        if isinstance(checked, Record):
            encoded = json.dumps(checked.user, separators=(",", ":")).encode()
            if len(encoded) < MAX_LINE_BYTES:
                return encoded + b"\n"
            checked = BadLine(record.line, "", "too-large")
        self._bad_lines[record.line] = checked
        return _PLACEHOLDER

    def _in_file_order(self, errors: list[Json]) -> list[BadLine]:
        """All bad lines. For a placeholder, the reason found here replaces the farm's."""
        answered = map(self._answered, errors)
        of_the_farm = [bad for bad in answered if bad.line not in self._bad_lines]
        return sorted([*self._bad_lines.values(), *of_the_farm], key=lambda bad: bad.line)

    def _answered(self, error: Json) -> BadLine:
        earlier = error.get("earlier_line")
        return BadLine(
            self._file_line(error["line"]),
            str(error.get("field", "")),
            str(error.get("code", "")),
            self._file_line(earlier) if isinstance(earlier, int) else None,
        )

    def _file_line(self, number: int) -> int:
        return self._lines[number - 1] if 1 <= number <= len(self._lines) else number


def _has_too_large_secrets(record: Record) -> bool:
    secrets = record.user.get("secrets")
    return len(json.dumps(secrets, ensure_ascii=False).encode()) > MAX_SECRETS_BYTES


def _names_lines(answer: Json) -> bool:
    errors = answer.get("errors")
    return isinstance(errors, list) and all(isinstance(each.get("line"), int) for each in errors)
