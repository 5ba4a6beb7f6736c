"""One farm over HTTP: a base URL, a token, and problems as exceptions."""

from collections.abc import Iterable
from typing import Any, Self

import httpx

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.exchanging import ExchangingTransport
from botfarm_client.connection.http_messages import FarmRequests, no_farm, raise_unanswered, read, timeout
from botfarm_client.connection.route import Route
from botfarm_client.connection.run_identity import Credential, RunIdentity, RunToken
from botfarm_client.connection.transport import FarmTransport

MAX_PAGE = 1_000


class Connection:
    """Raises FarmUnreachableError, UnexpectedAnswerError and ProblemError; RuntimeError once it is closed."""

    def __init__(
        self, url: str, credential: Credential, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`transport` is closed with the connection.

        Without it, raises SettingError if a variable for proxies or TLS cannot be used.
        """
        self._url, self._way = url.rstrip("/"), ""
        if transport is None:
            route = Route.to(self._url)
            transport, self._way = FarmTransport(route), route.description
        if isinstance(credential, RunIdentity):
            transport = ExchangingTransport(transport, RunToken(self._url, credential))
        self._transport = transport
        self._is_closed = False
        self._requests = FarmRequests(self._url, "" if isinstance(credential, RunIdentity) else credential)

    def send(self, call: Call) -> Json:
        # No argument here is a body, because pytest reports the arguments of each frame of a failed test.
        return self._ask(self._requests.of_call(call))

    def get(self, path: str, **query: object) -> Json:
        return self._get(path, query)

    def items(self, path: str, *, wait: float = 0, **query: object) -> list[Json]:
        """`wait`: seconds that the farm may take on top of `ANSWER_TIMEOUT`."""
        return self._items(self._get(path, query, wait=wait))

    def pages(self, path: str, *, limit: int | None, **query: object) -> tuple[list[Json], bool]:
        """At most `limit` items, over as many pages as needed, and whether there are more."""
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
        """Streams JSON lines.

        `wait`: seconds that the farm may take after the last line, on top of `ANSWER_TIMEOUT`.
        """
        headers = {"Content-Type": "application/x-ndjson"}
        request = self._requests.of(
            "POST", path, content=content, params=_given(query), headers=headers, timeout=timeout(wait)
        )
        return self._ask(request)

    def patch(self, path: str, body: Json) -> Json:
        return self.send(Call(method="PATCH", path=path, json=body))

    def delete(self, path: str) -> None:
        self.send(Call(method="DELETE", path=path))

    def close(self) -> None:
        self._is_closed = True
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _get(self, path: str, query: dict[str, object], *, wait: float = 0) -> Json:
        return self._ask(self._requests.of("GET", path, params=_given(query), timeout=timeout(wait)))

    def _ask(self, request: httpx.Request) -> Json:
        if self._is_closed:
            raise RuntimeError("this farm was closed")
        try:
            response = self._transport.handle_request(request)
            response.read()
        except httpx.HTTPError as error:
            raise_unanswered(error, f"{self._url}{self._way}")
        return read(response, self._url, self._way)

    def _items(self, document: Json) -> list[Json]:
        items = document.get("items")
        if not isinstance(items, list):
            raise no_farm(self._url)
        return items


def _given(query: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}
