"""Keepers: they clean users and rotate passwords, and some die half-way."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count, cycle
from typing import Any

from chaos.caller import Caller
from chaos.clients.runners import release
from chaos.plan import KeeperStep


async def do_chores(caller: Caller, script: list[KeeperStep]) -> None:
    """Goes on until it is cancelled."""
    for number, step in zip(count(), cycle(script), strict=False):
        await asyncio.sleep(step.pause)
        acquired = await caller.call(
            "acquire_lease",
            "POST",
            "/leases",
            replica=step.replica,
            body=step.wanted,
            key=f"{caller.name}-{number}",
        )
        if acquired.status in {200, 201}:
            await _work(caller, step, acquired.answer)


async def _work(caller: Caller, step: KeeperStep, lease: Mapping[str, Any]) -> None:
    path = f"/leases/{lease['id']}"
    await asyncio.sleep(step.works)
    for user in lease["users"]:
        if step.rotates or "rotate" in user["due"] or "pending_password" in user:
            await rotate(caller, path, user, step.replica, confirms=step.confirms)
        if step.writes_back:
            ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            body = {"secrets": {"session": f"cookie of {lease['fence']}"}, "session_expires_at": ends}
            await caller.call(
                "write_back", "PATCH", f"{path}/users/{user['id']}", replica=step.replica, body=body
            )
    if step.verdict is not None:
        await release(caller, path, step.verdict, step.replica)


async def rotate(
    caller: Caller, path: str, user: Mapping[str, Any], replica: int, *, confirms: bool = True
) -> None:
    """A password that an earlier keeper left pending is confirmed as it is."""
    rotation = f"{path}/users/{user['id']}/rotation"
    if "pending_password" not in user:
        started = await caller.call("start_rotation", "POST", rotation, replica=replica)
        if started.status != 200:
            return
    if confirms:
        await caller.call("confirm_rotation", "POST", f"{rotation}/confirm", replica=replica)
