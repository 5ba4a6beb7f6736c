"""Writes users as CSV or JSON lines, as an import reads them."""

import csv
import json
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

from botfarm_client.shared.user_files.records import Format

FIELDS = ("login", "env", "domain", "project", "labels")
CREDENTIALS = ("password", "secrets", "totp_seed")


def written(users: Iterable[dict[str, Any]], file_format: Format, *, with_credentials: bool) -> Iterator[str]:
    """The text of the file, in pieces. The users are as an export answers them."""
    fields = (*FIELDS, *CREDENTIALS) if with_credentials else FIELDS
    rows = ({**user, **(user.get("credentials") or {})} for user in users)
    if file_format is Format.JSONL:
        for row in rows:
            # ASCII, which every editor and shell leaves as it is.
            yield json.dumps({name: row[name] for name in fields if row[name] not in (None, {})}) + "\n"
        return
    yield _csv_row(fields)
    for row in rows:
        yield _csv_row(_cell(row[name]) for name in fields)


def _cell(value: object) -> str:
    if value is None or value == {}:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _csv_row(cells: Iterable[str]) -> str:
    line = StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
