"""Users as lines of an import over HTTP."""

import json
from collections.abc import Iterable
from typing import Any

import httpx

from support.farm import PASSWORD


def user(project_id: str, number: int, **fields: Any) -> dict[str, Any]:
    common = {"password": PASSWORD, "project_id": project_id, "env": "stage", "domain": "regular"}
    return {"login": f"u{number}@shop.test", **common, **fields}


async def post(api: httpx.AsyncClient, lines: Iterable[object], **query: str) -> httpx.Response:
    body = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines).encode()
    headers = {"Content-Type": "application/x-ndjson"}
    return await api.post("/users/import", content=body, headers=headers, params=query, timeout=60)


def imported(**given: object) -> dict[str, object]:
    return {"created": 0, "updated": 0, "unchanged": 0, "skipped": 0, "errors": [], **given}
