"""Commands to the runner of GitHub Actions that mask secrets in the log of a job."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO
from urllib.parse import quote, quote_plus

from botfarm_client.masks.lease_secrets import (
    SHORTEST,
    SHORTEST_NAMED,
    Users,
    is_public,
    other_secrets,
    passwords,
)
from botfarm_client.shared.plain_json import plain_json

# Characters. Escaped, such a line is at most 4 KiB: a pipe does not mix writes up to that size.
_LONGEST_PIECE = 1_000


def in_github_actions() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def mask_lines(users: Users, *, document: str = "") -> list[str]:
    """A command for each line of each secret, the longest first.

    A password is also masked in the forms of JSON, URLs and HTTP's Basic. `document` is one line and
    masked as a whole.
    """
    texts = {line for form in _password_forms(users) for line in _parts(form, users)}
    for secret in other_secrets(users):
        texts |= {line for form in _json_forms(secret) for line in _parts(form, users)}
    pieces = {piece for text in {*texts, document} for piece in _pieces(text)}
    return [
        f"::add-mask::{_escaped(piece)}" for piece in sorted(pieces, key=lambda piece: (-len(piece), piece))
    ]


def write_masks(users: Users, *, known: set[str] | None = None) -> None:
    """Writes the commands to standard error, because a program may read standard output.

    Outside of GitHub Actions: nothing.

    Leaves lines out that are in `known`, and adds new ones to it.
    """
    if not in_github_actions() or sys.stderr is None:
        return
    known = set() if known is None else known
    for line in mask_lines(users):
        if line not in known:
            known.add(line)
            _write_line(sys.stderr, line)


def _password_forms(users: Users) -> set[str]:
    forms = set()
    for login, password in passwords(users):
        forms |= {*_json_forms(password), quote(password, safe=""), quote(password), quote_plus(password)}
        for text in (password, f"{login}:{password}"):  # the second is for HTTP's Basic
            forms.add(base64.b64encode(text.encode()).decode().rstrip("="))
    return forms


def _json_forms(text: str) -> set[str]:
    return {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], plain_json(text)[1:-1]}


def _parts(text: str, users: Users) -> list[str]:
    """The lines to mask, because the runner masks single lines. Short lines of a longer text are left out."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        return lines
    return [line for line in lines if len(line) >= SHORTEST_NAMED and not is_public(line, users)]


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _LONGEST_PIECE):
        piece = text[start : start + _LONGEST_PIECE]
        if start == 0 or len(piece) >= SHORTEST:
            yield piece


def _escaped(text: str) -> str:
    """Escapes the text as the runner's commands require."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _write_line(stream: TextIO, line: str) -> None:
    """Writes a whole line after a line end: standard output may share the pipe and have an unfinished line.

    The runner reads UTF-8, whatever the locale of a stream is.
    """
    text = f"\n{line}\n"
    stream.flush()
    if (binary := getattr(stream, "buffer", None)) is None:
        stream.write(text)
        stream.flush()
    else:
        binary.write(text.encode())
        binary.flush()
