"""The farm that a command speaks to, from the environment; what goes wrong there ends the command with one line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from botfarm_client.connection import Connection, ProblemError, UnexpectedAnswerError
from botfarm_client.errors import CommandError, ExitCode
from botfarm_client.explanations import explain


@contextmanager
def open_farm(url: str) -> Iterator[Connection]:
    _require_plain_url(url)
    try:
        with Connection(url, _token()) as farm:
            yield farm
    except (ProblemError, UnexpectedAnswerError, httpx.HTTPError) as error:
        raise explain(error, url) from None


def _require_plain_url(url: str) -> None:
    """Never repeats it: it may hold a password, which would be sent instead of the token."""
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the system does when it looks the name up
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.raw_host:
        raise CommandError(
            "BOTFARM_URL (or --url) must be like http://127.0.0.1:8000", exit_code=ExitCode.USAGE
        )
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise CommandError(
            "BOTFARM_URL (or --url) takes no password, query or fragment", exit_code=ExitCode.USAGE
        )


def _token() -> str:
    token = os.environ.get("BOTFARM_TOKEN", "").strip() or _token_of_file()
    if not token:
        raise CommandError("no token: set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds it")
    if not (token.isascii() and token.isprintable()):
        raise CommandError("the token has characters that no token has: check BOTFARM_TOKEN")
    return token


def _token_of_file() -> str:
    path = os.environ.get("BOTFARM_TOKEN_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"cannot read the file of BOTFARM_TOKEN_FILE: {reason}") from None
