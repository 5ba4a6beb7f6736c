"""Which farm, and who asks: what a caller gives, else the environment."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from botfarm_client.errors import SettingError
from botfarm_client.proxies import DEFAULT_PORTS, HIGHEST_PORT

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class FarmSettings:
    url: str
    token: str = field(repr=False)
    project: str | None
    """Its name or id."""
    env: str | None

    @classmethod
    def of(
        cls,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        env: str | None = None,
    ) -> Self:
        """Raises SettingError, which never repeats a value: a URL may hold a password."""
        return cls(
            url=plain_url(os.environ.get("BOTFARM_URL") or DEFAULT_URL if url is None else url),
            token=_token(token),
            project=project or os.environ.get("BOTFARM_PROJECT") or None,
            env=env or os.environ.get("BOTFARM_ENV") or None,
        )


def plain_url(url: str) -> str:
    """Raises SettingError: a password in it would be sent instead of the token."""
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the system does when it looks the name up
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL()
    if parsed.scheme not in DEFAULT_PORTS or not parsed.raw_host or (parsed.port or 0) > HIGHEST_PORT:
        raise SettingError("BOTFARM_URL (or --url) must be like http://127.0.0.1:8000")
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise SettingError("BOTFARM_URL (or --url) takes no password, query or fragment")
    return url


def _token(given: str | None) -> str:
    token = (given or "").strip() or os.environ.get("BOTFARM_TOKEN", "").strip() or _token_of_file()
    if not token:
        raise SettingError("no token: set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds it")
    if not (token.isascii() and token.isprintable()):
        raise SettingError("the token has characters that no token has: check BOTFARM_TOKEN")
    return token


def _token_of_file() -> str:
    path = os.environ.get("BOTFARM_TOKEN_FILE")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(f"cannot read the file of BOTFARM_TOKEN_FILE: {reason}") from None
