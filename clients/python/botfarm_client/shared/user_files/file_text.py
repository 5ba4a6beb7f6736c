"""The text and the format of a file of users."""

import codecs
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper

from botfarm_client.shared.user_files.records import Format, UserFileError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_START = 1_024
"""Bytes that tell the format."""


def _as_lone_surrogate(error: UnicodeError) -> tuple[str, int]:
    """Bytes that are no text spoil the line that they are in, and not the whole file."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udcff", error.end


codecs.register_error("botfarm.lone-surrogate", _as_lone_surrogate)


@contextmanager
def text_of(file: BufferedReader, *, newline: str) -> Iterator[TextIOWrapper]:
    """The text of UTF-8, or of UTF-16 with a byte order mark, as Excel's "Unicode Text" and PowerShell 5 write it."""
    text = TextIOWrapper(file, encoding=_encoding(file), errors="botfarm.lone-surrogate", newline=newline)
    try:
        yield text
    finally:
        if not file.closed:  # by the caller, when it gave up in the middle
            text.detach()


def format_of(name: str, file: BufferedReader) -> Format:
    """The format, by the ending of the file's name, else by the first character."""
    ending = name.lower().rpartition(".")[2]
    if ending == "csv":
        return Format.CSV
    if ending in {"jsonl", "ndjson"}:
        return Format.JSONL
    start = file.peek(_START)[:_START].decode(_encoding(file), errors="replace").lstrip()[:1]
    if start == "[":
        raise UserFileError("this is one JSON array: give one object a line (`jq -c '.[]'` makes that of it)")
    return Format.JSONL if start == "{" else Format.CSV


def _encoding(file: BufferedReader) -> str:
    return "utf-16" if file.peek(2).startswith(_UTF16) else "utf-8-sig"


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
