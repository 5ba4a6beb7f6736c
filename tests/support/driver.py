"""Asks the API by the names that its OpenAPI document gives to operations, and keeps every answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

ELSEWHERE = "no operation"


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    document: Mapping[str, Any]

    @property
    def needs_role(self) -> str | None:
        return self.document.get("x-needs-role")

    @property
    def media_type(self) -> str | None:
        """Of its body; None when it takes none."""
        return next(iter(self.document.get("requestBody", {}).get("content", {})), None)

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.document["responses"]}

    def parameters(self, place: str) -> list[str]:
        """The names of those in the path, the query or the headers."""
        return [each["name"] for each in self.document.get("parameters", []) if each["in"] == place]


@dataclass(frozen=True)
class Answer:
    caller: str
    operation: str
    status: int
    headers: httpx.Headers
    text: str
    """Its headers and its body."""


@dataclass
class Driver:
    http: httpx.AsyncClient
    operations: Mapping[str, Operation]
    callers: dict[str, dict[str, str]] = field(default_factory=lambda: {"nobody": {}})
    """The headers of each."""
    answers: list[Answer] = field(default_factory=list)

    async def ask(
        self,
        name: str,
        *,
        caller: str = "admin",
        path: Mapping[str, str] | None = None,
        after: str = "",
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> httpx.Response:
        """With `after` at the end, the address is that of no operation, or of another."""
        operation = self.operations[name]
        url = operation.path.format_map(path or {}) + after
        sent = {**self.callers[caller], **(headers or {})}
        answer = await self.http.request(operation.method, url, headers=sent, **content)
        head = "\n".join(f"{key}: {value}" for key, value in answer.headers.items())
        asked = ELSEWHERE if after else name
        self.answers.append(
            Answer(caller, asked, answer.status_code, answer.headers, f"{head}\n\n{answer.text}")
        )
        self.http.cookies.clear()
        return answer

    def seen(self, name: str) -> set[int]:
        return {answer.status for answer in self.answers if answer.operation == name}


async def open_driver(http: httpx.AsyncClient) -> Driver:
    document = (await http.get("/openapi.json")).json()
    operations = [
        Operation(operation["operationId"], method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return Driver(http, {operation.name: operation for operation in operations})
