"""One farm over HTTP: a base URL, a token, and problems as exceptions."""

from typing import Any, Self

import httpx

API = "/api/v1"
# Longer than the longest wait that a server answers in one request (BOTFARM_MAX_WAIT).
TIMEOUT = httpx.Timeout(10.0, read=310.0)


class ProblemError(Exception):
    """The farm answered with a problem. `slug` is the stable name of its kind, `details` the rest of the document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.slug = str(problem.get("type", "")).rpartition(":")[2]
        self.detail = str(problem.get("detail", ""))
        self.details = problem
        super().__init__(f"{status} {self.slug}: {self.detail}")


class Connection:
    def __init__(self, url: str, token: str, *, client: httpx.Client | None = None) -> None:
        """A client that is given stays the caller's to close."""
        self._client = client or httpx.Client(timeout=TIMEOUT)
        self._is_ours = client is None
        self._url = url.rstrip("/") + API
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **query: object) -> Any:
        return self._request(
            "GET", path, params={name: value for name, value in query.items() if value is not None}
        )

    def post(self, path: str, body: object = None, *, idempotency_key: str | None = None) -> Any:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._request("POST", path, json=body, headers=headers)

    def close(self) -> None:
        if self._is_ours:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **content: Any
    ) -> Any:
        response = self._client.request(
            method, self._url + path, headers={**self._headers, **(headers or {})}, **content
        )
        if response.is_success:
            return response.json()
        raise ProblemError(response.status_code, _problem(response))


def _problem(response: httpx.Response) -> dict[str, Any]:
    """A proxy on the way may answer with a page of its own."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"detail": response.reason_phrase}
