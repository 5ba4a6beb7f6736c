"""One client's way to the farm: each attempt is one request and one recorded call. Nothing is retried in here."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from chaos.history import BROKEN_OFF, PATIENCE, Call, Fault

API = "/api/v1"


class Record(Protocol):
    def add(self, record: Call | Fault) -> None: ...


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    principal: str
    token: str
    origins: Sequence[str]
    """Of the replicas."""
    http: httpx.AsyncClient
    record: Record

    async def call(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        replica: int,
        body: Any = None,
        lines: str | None = None,
        key: str | None = None,
        hangs_up_after: float | None = None,
    ) -> Call:
        """Sends one request to the API. `lines` is a body of JSON lines."""
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Idempotency-Key": key} if key else {})
        content = lines
        if lines is not None:
            headers["Content-Type"] = "application/x-ndjson"
        elif body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body)
        wait = body.get("wait_seconds", 0) if isinstance(body, dict) else 0
        patience = PATIENCE + wait if hangs_up_after is None else hangs_up_after
        origin = self.origins[replica % len(self.origins)]
        request = self.http.build_request(method, f"{origin}{API}{path}", headers=headers, content=content)
        return await self.send(
            operation, request, body=body if lines is None else lines, key=key, patience=patience
        )

    async def send(
        self, operation: str, request: httpx.Request, *, body: Any, key: str | None, patience: float
    ) -> Call:
        sent_at = time.monotonic()
        response, error = None, BROKEN_OFF  # unless it goes on
        try:
            async with asyncio.timeout(patience):
                response = await self.http.send(request)
        except TimeoutError:
            error = f"hung up after {patience} s"
        except httpx.HTTPError as failure:
            error = f"{type(failure).__name__}: {failure}"
        finally:
            call = Call(
                client=self.name,
                operation=operation,
                method=request.method,
                path=request.url.raw_path.decode(),
                replica=f"{request.url.scheme}://{request.url.netloc.decode()}",
                sent_at=sent_at,
                ended_at=time.monotonic(),
                principal=self.principal,
                key=key,
                body=body,
                **({"error": error} if response is None else _what_it_says(response)),
            )
            self.record.add(call)
        return call


def _what_it_says(response: httpx.Response) -> dict[str, Any]:
    """An answer that says it is JSON and is none stays text, for the checker to name it."""
    content_type = response.headers.get("content-type", "")
    answer: Any = response.text
    if "json" in content_type:
        with suppress(ValueError):
            answer = response.json()
    return {"status": response.status_code, "answer": answer, "content_type": content_type}


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx.AsyncClient]:
    """Without a limit of its own, because each client of the farm stands for a process of its own."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=None, limits=limits, trust_env=False) as client:
        yield client
