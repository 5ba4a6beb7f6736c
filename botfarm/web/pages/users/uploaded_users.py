"""Users of an uploaded file: read as the command line reads files, each checked as the API checks it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from io import BufferedReader, BytesIO
from itertools import islice
from typing import Any, cast

from botfarm.domain.users import LineError, UserLine
from botfarm.web.api.stock.json_lines import MAX_LINES, parse_line, too_many_lines
from botfarm_client.shared.user_files.reading import UserFile
from botfarm_client.shared.user_files.records import BadLine, Reading, Record, with_project_id

# Lines that are read in one turn of a thread, because a large file takes seconds.
LINES_AT_ONCE = 500


def user_file(name: str, content: bytes, reading: Reading) -> UserFile:
    """Raises UserFileError, now or when it is read."""
    return UserFile(BufferedReader(cast("Any", BytesIO(content))), name, reading)


async def read_lines(
    users: UserFile, reading: Reading, *, projects: Mapping[str, str]
) -> AsyncIterator[UserLine | LineError]:
    """`projects` are ids by name.

    Raises UserFileError, and TooLargeError for too many lines.
    """
    count = 0
    while some := await asyncio.to_thread(_some, users, reading, projects):
        count += len(some)
        if count > MAX_LINES:
            raise too_many_lines()
        for lines in some:
            for line in lines:
                yield line


def _some(
    records: Iterable[Record | BadLine], reading: Reading, projects: Mapping[str, str]
) -> list[list[UserLine | LineError]]:
    """The next lines of the file: of each the user, or what is wrong with it."""
    return [_parsed(record, reading, projects) for record in islice(records, LINES_AT_ONCE)]


def _parsed(
    record: Record | BadLine, reading: Reading, projects: Mapping[str, str]
) -> list[UserLine | LineError]:
    if isinstance(record, Record):
        record = with_project_id(record, projects, reading.given.get("project"))
    if isinstance(record, BadLine):
        return [LineError(record.line, record.field, record.code)]
    return parse_line(record.line, json.dumps(record.user).encode())
