"""Plans and applies of farm files over HTTP."""

from typing import Any

import httpx

Json = dict[str, Any]


async def plan(api: httpx.AsyncClient, body: Json) -> Json:
    answer = await api.post("/config/plan", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def apply(api: httpx.AsyncClient, body: Json) -> Json:
    """Plans and applies."""
    fingerprint = (await plan(api, body))["fingerprint"]
    answer = await api.post("/config/apply", json={**body, "fingerprint": fingerprint})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def deeds(planned: Json) -> list[tuple[str, str, str]]:
    return [(each["thing"]["kind"], each["thing"]["name"], each["deed"]) for each in planned["changes"]]
