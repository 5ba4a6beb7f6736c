"""One farm over HTTP: a base URL, a token, and problems as exceptions."""

from collections.abc import Iterable
from typing import Any, Self

import httpx

from botfarm_client.calls import API, LIMITS, Bearer, Call, Json, no_farm, raise_unanswered, read, timeout

MAX_PAGE = 1_000


class Connection:
    """Raises FarmUnreachableError, UnexpectedAnswerError and ProblemError."""

    def __init__(self, url: str, token: str, *, client: httpx.Client | None = None) -> None:
        """A client that is given stays the caller's to close."""
        self._client = client or httpx.Client(limits=LIMITS)
        self._is_ours = client is None
        self._url = url.rstrip("/")
        self._auth = Bearer(token)

    def begin_anew(self, client: httpx.Client) -> None:
        """In a forked process: an answer to the parent must not come here."""
        self._client = client

    def send(self, call: Call) -> Json:
        # Nothing here has a body in a variable of its own: a failed test's report shows arguments.
        try:
            response = self._client.request(
                call.method, self._url + API + call.path, auth=self._auth, **call.arguments()
            )
        except httpx.HTTPError as error:
            raise_unanswered(error, self._url)
        return read(response, self._url)

    def get(self, path: str, **query: object) -> Json:
        return self._request("GET", path, params=_given(query), timeout=timeout(0))

    def items(self, path: str, **query: object) -> list[Json]:
        return self._items(self.get(path, **query))

    def pages(self, path: str, *, limit: int | None, **query: object) -> tuple[list[Json], bool]:
        """As many items as `limit` allows, over as many pages as that takes, and whether there are more."""
        found: list[Json] = []
        cursor: str | None = None
        while True:
            wanted = MAX_PAGE if limit is None else min(MAX_PAGE, limit - len(found))
            page = self.get(path, limit=wanted, cursor=cursor, **query)
            found += self._items(page)
            cursor = page.get("next_cursor")
            if cursor is None or (limit is not None and len(found) >= limit):
                return found, cursor is not None

    def post(self, path: str, body: Json | None = None) -> Json:
        return self.send(Call(method="POST", path=path, json=body))

    def post_lines(self, path: str, content: Iterable[bytes], *, wait: float, **query: object) -> Json:
        """Sends JSON lines as they are made; `wait` is how long the farm may need after the last one."""
        headers = {"Content-Type": "application/x-ndjson"}
        return self._request(
            "POST", path, content=content, params=_given(query), headers=headers, timeout=timeout(wait)
        )

    def patch(self, path: str, body: Json) -> Json:
        return self.send(Call(method="PATCH", path=path, json=body))

    def delete(self, path: str) -> None:
        self.send(Call(method="DELETE", path=path))

    def close(self) -> None:
        if self._is_ours:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, method: str, path: str, **content: Any) -> Json:
        try:
            response = self._client.request(method, self._url + API + path, auth=self._auth, **content)
        except httpx.HTTPError as error:
            raise_unanswered(error, self._url)
        return read(response, self._url)

    def _items(self, document: Json) -> list[Json]:
        items = document.get("items")
        if not isinstance(items, list):
            raise no_farm(self._url)
        return items


def _given(query: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
