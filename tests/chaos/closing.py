"""How a run ends: nobody asks any more, the leases end, a last keeper cleans; then every user should be free."""

import asyncio
import time

from chaos.caller import Caller
from chaos.clients.keepers import rotate
from chaos.clients.runners import release
from chaos.stock import POOLS

LONGEST_WAIT = 11.0
"""Seconds: a killed replica leaves its tickets, and a caller that has gone its place, each for ten seconds at most."""
COMES_BACK_WITHIN = 30.0
LEASES_END_WITHIN = 40.0
"""Seconds: the longest hold of a policy, the longest lock-delay, and the longest step of the clock."""


async def come_to_rest(manager: Caller, keeper: Caller) -> None:
    """Returns when all users are free, or after LEASES_END_WITHIN: then the checker names the others."""
    tickets_end_at = time.monotonic() + LONGEST_WAIT
    for replica in range(len(manager.origins)):
        await _comes_back(manager, replica)
    deadline = time.monotonic() + LEASES_END_WITHIN
    while time.monotonic() < deadline:
        body = {"action": "restore", "filter": {"state": "quarantined"}}
        await manager.call("change_users", "POST", "/users/bulk", replica=0, body=body)
        for pool in POOLS:
            while await _cleaned_one(keeper, pool.body):
                pass
        if await _all_are_free(manager) and time.monotonic() > tickets_end_at:
            return
        await asyncio.sleep(0.5)


async def _comes_back(manager: Caller, replica: int) -> None:
    """By itself, after all that was done to it and to its database."""
    deadline = time.monotonic() + COMES_BACK_WITHIN
    while (await manager.call("get_users", "GET", "/users?limit=1", replica=replica)).status != 200:
        assert time.monotonic() < deadline, f"{manager.origins[replica]} does not come back"
        await asyncio.sleep(0.5)


async def _cleaned_one(keeper: Caller, pool: dict[str, str]) -> bool:
    body = {**pool, "purpose": "chore", "ttl_seconds": 5}
    call = await keeper.call("acquire_lease", "POST", "/leases", replica=0, body=body)
    if call.status != 201:
        return False
    path = f"/leases/{call.answer['id']}"
    for user in call.answer["users"]:
        if "pending_password" in user or "rotate" in user["due"]:
            await rotate(keeper, path, user, replica=0)
    await release(keeper, path, {"outcome": "ok"}, replica=0)
    return True


async def _all_are_free(manager: Caller) -> bool:
    call = await manager.call("get_users", "GET", "/users?limit=1000", replica=0)
    waiting = await manager.call("get_waiting", "GET", "/leases/waiting", replica=0)
    if call.status != 200 or waiting.status != 200:
        return False
    return not waiting.answer["items"] and all(
        user["state"] in {"free", "retired"} for user in call.answer["items"]
    )
