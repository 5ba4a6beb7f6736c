"""Requests and answers as HTTP messages, without sending them: the same for threads and tasks."""

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import httpx

from botfarm_client import __version__
from botfarm_client.connection.api_calls import ANSWER_TIMEOUT, API, Call, Json
from botfarm_client.errors import (
    BotfarmError,
    FarmUnreachableError,
    LostAnswerError,
    UnexpectedAnswerError,
    problem_error,
)
from botfarm_client.shared.control_characters import escape_control_characters

# Seconds.
CONNECT_TIMEOUT = 10.0


class FarmRequests:
    """Builds requests to one farm, with its token. The token is in no `repr`."""

    def __init__(self, url: str, token: str) -> None:
        self._base = url + API
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"botfarm-client/{__version__}",
        }

    def of_call(self, call: Call) -> httpx.Request:
        return self.of(
            call.method,
            call.path,
            timeout=timeout(call.wait, call.patience),
            headers=call.headers(),
            content=call.content(),
        )

    def of(
        self,
        method: str,
        path: str,
        *,
        timeout: httpx.Timeout,
        headers: Mapping[str, str] = {},
        params: Mapping[str, Any] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> httpx.Request:
        return httpx.Request(
            method,
            self._base + path,
            params=params,
            headers={**self._headers, **headers},
            content=content,
            extensions={"timeout": timeout.as_dict()},
        )


def timeout(wait: float, patience: float = ANSWER_TIMEOUT) -> httpx.Timeout:
    return httpx.Timeout(patience + wait, connect=min(CONNECT_TIMEOUT, patience))


def read(response: httpx.Response, url: str, way: str = "") -> Json:
    """The document of an answer. `way` is ` through the proxy ...`, or empty.

    Raises ProblemError and UnexpectedAnswerError.
    """
    if not response.is_success:
        # A proxy may answer with a page of its own instead of a problem.
        problem = _document(response) or {"detail": f"{response.reason_phrase}{way}"}
        raise problem_error(response.status_code, problem, retry_after=_retry_after(response))
    document = {} if response.status_code == httpx.codes.NO_CONTENT else _document(response)
    if document is None:
        raise no_farm(f"{url}{way}")
    return document


def no_farm(url: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(f"what answers at {url} is no farm: check BOTFARM_URL")


def raise_unanswered(error: httpx.HTTPError, url: str) -> NoReturn:
    """Raises FarmUnreachableError.

    Its cause has no frames, because pytest would report their arguments, which hold bodies.
    """
    cause = type(error)(str(error))
    raise failure(error, url) from cause


def failure(error: httpx.HTTPError, url: str) -> BotfarmError:
    """The error for a request without an answer."""
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            said = escape_control_characters(str(error)) or "timed out"
            reason = "" if "refused" in said else f" ({said})"
            return FarmUnreachableError(
                f"cannot reach the farm at {url}{reason}: is it running? set BOTFARM_URL"
            )
        case httpx.TimeoutException():
            return LostAnswerError(f"the farm at {url} did not answer in time: try again")
        case _:
            return LostAnswerError(f"the connection to the farm at {url} broke: try again")


def _document(response: httpx.Response) -> Json | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, or None. The header's other form, a date, is never sent by a farm."""
    given = response.headers.get("retry-after", "")
    return float(given) if given.isascii() and given.isdigit() else None
