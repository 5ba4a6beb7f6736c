"""Users of an uploaded file: read as the command line reads files, each checked as the API checks it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from io import BufferedReader, BytesIO
from itertools import islice
from typing import Any, cast

from botfarm.domain.users import LineError, UserLine
from botfarm.web.api.json_lines import MAX_LINES, parse_line, too_many_lines
from botfarm_client.shared.user_files import (
    BadLine,
    Format,
    Record,
    format_of,
    read_csv,
    read_json_lines,
    with_project_id,
)

# Lines that are read in one turn of a thread, because a large file takes seconds.
LINES_AT_ONCE = 500


async def read_users(
    name: str, content: bytes, *, given: Mapping[str, str], projects: Mapping[str, str]
) -> AsyncIterator[UserLine | LineError]:
    """`given` are the project, env and domain of lines that name none. `projects` are ids by name.

    Raises UserFileError, and TooLargeError for too many lines.
    """
    records, count = _records(name, content, given), 0
    while some := await asyncio.to_thread(_some, records, given, projects):
        count += len(some)
        if count > MAX_LINES:
            raise too_many_lines()
        for lines in some:
            for line in lines:
                yield line


def _records(name: str, content: bytes, given: Mapping[str, str]) -> Iterator[Record | BadLine]:
    file = BufferedReader(cast("Any", BytesIO(content)))
    return read_csv(file, given=given) if format_of(name, file) is Format.CSV else read_json_lines(file)


def _some(
    records: Iterable[Record | BadLine], given: Mapping[str, str], projects: Mapping[str, str]
) -> list[list[UserLine | LineError]]:
    """The next lines of the file: of each the user, or what is wrong with it."""
    return [_parsed(record, given, projects) for record in islice(records, LINES_AT_ONCE)]


def _parsed(
    record: Record | BadLine, given: Mapping[str, str], projects: Mapping[str, str]
) -> list[UserLine | LineError]:
    if isinstance(record, Record):
        record = with_project_id(record, projects, given.get("project"))
    if isinstance(record, BadLine):
        return [LineError(record.line, record.field, record.code)]
    user = {**{name: given[name] for name in ("env", "domain") if name in given}, **record.user}
    return parse_line(record.line, json.dumps(user).encode())
