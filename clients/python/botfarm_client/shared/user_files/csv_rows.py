"""The rows of CSV: the delimiter is found out, and a quote that is never closed spoils only its own line."""

import csv
import re
from collections.abc import Callable, Iterator

from typing_extensions import override

from botfarm_client.shared.user_files.records import BadLine

DELIMITERS = ",;\t"
MAX_CELL = 67_108_864
"""Characters. A whole import has no more bytes, so a longer cell has a quote that is never closed."""
MAX_RECORD_LINES = 5_000
"""Of one record, because a quote that is never closed takes all lines up to here, and they are read again."""
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])\1*"?[,;\s]*', re.IGNORECASE)
"""Excel reads it in the first line, and writes it back with further delimiters."""

Row = tuple[int, list[str]]
"""The number of its first line, and its cells."""


def rows_of(text: Iterator[str], *, is_column: Callable[[str], bool]) -> Iterator[Row | BadLine]:
    """The rows. Empty rows are skipped, because spreadsheets write them below the last one.

    The delimiter is the one that a first line `sep=` names, or that makes the most columns of the first row known.
    """
    lines = _Lines(text)
    delimiter = _delimiter(lines, is_column)
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


class _Lines(Iterator[str]):
    """Numbered lines that can be put back."""

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


def _delimiter(lines: _Lines, is_column: Callable[[str], bool]) -> str:
    first = next(lines, "")
    said = _SEPARATOR.fullmatch(first)
    if said:
        return said[1]
    passed = [first]
    while passed[-1] and not passed[-1].strip(f'{DELIMITERS}" \r\n'):
        passed.append(next(lines, ""))
    lines.put_back([line for line in passed if line])
    return max(DELIMITERS, key=lambda delimiter: sum(map(is_column, _names(passed[-1], delimiter))))


def _names(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
