"""The farm's URL, the token, and default terms of leases, from arguments or else from the environment."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from botfarm_client.connection.api_calls import DEFAULT_URL
from botfarm_client.connection.proxies import names_server
from botfarm_client.errors import SettingError
from botfarm_client.shared.text_input import decoded, stripped, variable


@dataclass(frozen=True)
class FarmSettings:
    url: str
    token: str = field(repr=False)
    project: str | None
    """Its name or id."""
    env: str | None
    domain: str | None = None
    """Without it the first of the project's."""
    wait: float = 120
    """Seconds that an acquire waits for its users, at most."""
    ttl: int | None = None
    """Seconds; without it the project's `default_ttl`."""

    @classmethod
    def of(
        cls,
        url: str | None = None,
        token: str | None = None,
        *,
        project: str | None = None,
        env: str | None = None,
        domain: str | None = None,
        wait: float | None = None,
        ttl: int | None = None,
    ) -> Self:
        """Raises SettingError. Its message never repeats a value, because a URL may hold a password."""
        return cls(
            url=plain_url(variable("BOTFARM_URL") or DEFAULT_URL if url is None else stripped(url)),
            token=_token(token),
            project=stripped(project or "") or variable("BOTFARM_PROJECT"),
            env=stripped(env or "") or variable("BOTFARM_ENV"),
            domain=stripped(domain or "") or None,
            wait=cls.wait if wait is None else wait,
            ttl=ttl,
        )


def plain_url(url: str) -> str:
    """The URL itself, if it is http(s) and has no password, query or fragment. Raises SettingError otherwise.

    A password in the URL would be sent instead of the token.
    """
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the resolver does
    except (httpx.InvalidURL, UnicodeError):
        parsed = httpx.URL()
    if not names_server(parsed) or any(character.isspace() for character in url):
        raise SettingError("BOTFARM_URL (or --url) must be like http://127.0.0.1:8000")
    if (
        parsed.userinfo or "?" in url or "#" in url
    ):  # also when it is empty, because the API's path is appended
        raise SettingError("BOTFARM_URL (or --url) takes no password, query or fragment")
    return url


def _token(given: str | None) -> str:
    token = stripped(given or "") or variable("BOTFARM_TOKEN") or _token_of_file()
    if not token:
        raise SettingError("no token: set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds it")
    if not (token.isascii() and token.isprintable()):
        raise SettingError("the token has characters that no token has: check BOTFARM_TOKEN")
    return token


def _token_of_file() -> str:
    path = variable("BOTFARM_TOKEN_FILE")
    if not path:
        return ""
    try:
        return stripped(decoded(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingError(f"cannot read the file of BOTFARM_TOKEN_FILE: {reason}") from None
