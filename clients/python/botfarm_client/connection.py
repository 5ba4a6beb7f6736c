"""One farm over HTTP: a base URL, a token, and problems as exceptions."""

from collections.abc import Iterable
from typing import Any, Self

import httpx

API = "/api/v1"
MAX_PAGE = 1_000
# Seconds. What the farm is told to wait, and what it needs for a long import, comes on top.
CONNECT_TIMEOUT, ANSWER_TIMEOUT = 10.0, 30.0

Json = dict[str, Any]


class ProblemError(Exception):
    """The farm answered with a problem. `slug` is the stable name of its kind, `details` the rest of the document."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.slug = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", ""))
        self.details = problem
        super().__init__(f"{status} {self.slug}: {self.detail}")


class UnexpectedAnswerError(Exception):
    """An answer that is no farm's: something else is at this address."""


class Connection:
    def __init__(self, url: str, token: str, *, client: httpx.Client | None = None) -> None:
        """A client that is given stays the caller's to close."""
        self._client = client or httpx.Client()
        self._is_ours = client is None
        self._url = url.rstrip("/") + API
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **query: object) -> Json:
        return self._request("GET", path, params=_given(query))

    def items(self, path: str, **query: object) -> list[Json]:
        return _items(self.get(path, **query))

    def pages(self, path: str, *, limit: int | None, **query: object) -> tuple[list[Json], bool]:
        """As many items as `limit` allows, over as many pages as that takes, and whether there are more."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            wanted = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
            page = self.get(path, limit=wanted, cursor=cursor, **query)
            found += _items(page)
            cursor = page.get("next_cursor")
            if cursor is None or (limit is not None and len(found) >= limit):
                return found, cursor is not None

    def post(
        self, path: str, body: Json | None = None, *, idempotency_key: str | None = None, wait: float = 0
    ) -> Json:
        """`wait` is how long the farm was asked to keep the request open."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._request("POST", path, json=body, headers=headers, wait=wait)

    def post_lines(self, path: str, content: Iterable[bytes], *, wait: float, **query: object) -> Json:
        """Sends JSON lines as they are made."""
        headers = {"Content-Type": "application/x-ndjson"}
        return self._request("POST", path, content=content, params=_given(query), headers=headers, wait=wait)

    def patch(self, path: str, body: Json) -> Json:
        return self._request("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        self._request("DELETE", path)

    def close(self) -> None:
        if self._is_ours:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        wait: float = 0,
        **content: Any,
    ) -> Json:
        response = self._client.request(
            method,
            self._url + path,
            headers={**self._headers, **(headers or {})},
            timeout=httpx.Timeout(ANSWER_TIMEOUT + wait, connect=CONNECT_TIMEOUT),
            **content,
        )
        if not response.is_success:
            raise ProblemError(response.status_code, _problem(response))
        return {} if response.status_code == httpx.codes.NO_CONTENT else _document(response)


def _given(query: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _document(response: httpx.Response) -> Json:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnexpectedAnswerError
    return document


def _items(document: Json) -> list[Json]:
    items = document.get("items")
    if not isinstance(items, list):
        raise UnexpectedAnswerError
    return items


def _problem(response: httpx.Response) -> Json:
    """A proxy on the way may answer with a page of its own."""
    try:
        return _document(response)
    except UnexpectedAnswerError:
        return {"detail": response.reason_phrase}
