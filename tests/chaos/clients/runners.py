"""Test runs: they acquire, work, renew and release, or die; what goes wrong they meet as an SDK would."""

import asyncio
from itertools import count, cycle
from typing import Any

from chaos.caller import Caller
from chaos.history import Call
from chaos.plan import RunnerStep

UNCERTAIN = (None, 500, 502, 503, 504)
"""Statuses after which a retry is sensible; None is no answer."""


async def run_tests(caller: Caller, script: list[RunnerStep]) -> None:
    """Goes on until it is cancelled."""
    for number, step in zip(count(), cycle(script), strict=False):
        await asyncio.sleep(step.pause)
        key = f"{caller.name}-{number}" if step.has_key else None
        granted = await _acquire(caller, step, key)
        if granted is not None:
            await _work(caller, step, granted)


async def _acquire(caller: Caller, step: RunnerStep, key: str | None) -> Call | None:
    for attempt in range(step.attempts):
        replicas = [step.replica + attempt]
        if step.asks_twice and attempt == 0:
            replicas.append(step.replica + 1)
        calls = await asyncio.gather(*(_ask(caller, step, key, attempt, replica) for replica in replicas))
        granted = next((call for call in calls if call.status in {200, 201}), None)
        if granted is not None:
            if step.asks_twice:
                await _ask(caller, step, key, attempt + 1, step.replica + 2)
            return granted
        is_settled = all(call.status not in UNCERTAIN for call in calls)
        if is_settled and not (step.insists and attempt == 0):
            return None
        await asyncio.sleep(0.1 * (attempt + 1))
    return None


async def _ask(caller: Caller, step: RunnerStep, key: str | None, attempt: int, replica: int) -> Call:
    return await caller.call(
        "acquire_lease",
        "POST",
        "/leases",
        replica=replica,
        body=step.wanted,
        key=key,
        hangs_up_after=step.hangs_up_after if attempt == 0 else None,
    )


async def _work(caller: Caller, step: RunnerStep, granted: Call) -> None:
    lease: dict[str, Any] = granted.answer
    path = f"/leases/{lease['id']}"
    for renewal in range(step.renewals):
        await asyncio.sleep(step.works / (step.renewals + 1))
        renewed = await caller.call("renew_lease", "POST", f"{path}/renew", replica=step.replica + renewal)
        if renewed.status == 410:
            return
    await asyncio.sleep(step.works / (step.renewals + 1))
    if step.verdict is not None:
        of_one = [{"id": lease["users"][0]["id"], **step.says_of_one}] if step.says_of_one else []
        await release(caller, path, {**step.verdict, "users": of_one}, step.replica)


async def release(caller: Caller, path: str, verdict: dict[str, Any], replica: int) -> None:
    """Until it is answered, three times at most."""
    for attempt in range(3):
        call = await caller.call(
            "release_lease", "POST", f"{path}/release", replica=replica + attempt, body=verdict
        )
        if call.status not in UNCERTAIN:
            return
        await asyncio.sleep(0.2 * (attempt + 1))
