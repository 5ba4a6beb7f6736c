"""Ends a run: waits until all leases have ended and a last keeper has cleaned, and expects every user to be free.

What does not come to rest is recorded as a breakdown, so that the checker names it beside all else that it finds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import httpx

from chaos.caller import Caller
from chaos.clients.keepers import rotate
from chaos.clients.runners import release
from chaos.history import BREAKDOWN, Fault
from chaos.processes import ChaosFarm, FarmProcess
from chaos.stock import POOLS

Question = Callable[[], Awaitable[bool]]
LONGEST_WAIT = 11.0
"""Seconds: a killed replica leaves its tickets, and a caller that has gone its place, each for ten seconds at most."""
COMES_BACK_WITHIN = 30.0
LEASES_END_WITHIN = 40.0
"""Seconds: the longest hold of a policy, the longest lock-delay, and the longest step of the clock."""

# Rollups that are computed within ten seconds of the end of a lease may miss it, until they are computed again.
_LEASES_HAVE_SETTLED = """
    SELECT coalesce(max(coalesce(ended_at, expires_at)) < clock_timestamp() - interval '11 seconds', true)
    FROM leases"""
_TIDIED_UP = {
    "rolls nothing up": "SELECT max(observed_until) > $1 FROM rollup_hours",
    "leaves tickets": """
        SELECT NOT EXISTS (
            SELECT FROM tickets WHERE deadline < CAST($1 AS timestamptz) - interval '60 seconds')""",
}
"""By what is wrong where it is not so: what a worker does when it starts, and had to do at this moment."""


async def come_to_rest(farm: ChaosFarm, manager: Caller, keeper: Caller, *, steps_clock: bool) -> None:
    """Returns when all processes serve, all users are free and the worker has tidied up, or when it waits in vain.

    After steps of the clock it is not waited for, because the checker does not compare rollups then.
    """
    tickets_end_at = time.monotonic() + LONGEST_WAIT
    for number, replica in enumerate(farm.replicas):
        await _comes_back(replica, partial(_serves, manager, number))
    worker = farm.processes["worker"]
    await _comes_back(worker, partial(_works, worker, manager.http))
    await _users_come_free(manager, keeper, tickets_end_at)
    if not steps_clock:
        await _tidy_up(farm, worker)


async def _comes_back(process: FarmProcess, is_back: Question) -> None:
    """By itself, after all that was done to it and to its database."""
    since = time.monotonic()
    if not await _is_so_within(COMES_BACK_WITHIN, is_back):
        process.broke_down("does not come back", since)


async def _is_so_within(seconds: float, is_so: Question) -> bool:
    deadline = time.monotonic() + seconds
    while not await is_so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.5)
    return True


async def _serves(manager: Caller, replica: int) -> bool:
    return (await manager.call("get_users", "GET", "/users?limit=1", replica=replica)).status == 200


async def _works(worker: FarmProcess, http: httpx.AsyncClient) -> bool:
    """By its own account: no job is late, and it has a database."""
    try:
        probes = [await http.get(f"{worker.origin}/{probe}", timeout=5) for probe in ("livez", "readyz")]
    except httpx.HTTPError:
        return False
    return all(probe.status_code == 200 for probe in probes)


async def _users_come_free(manager: Caller, keeper: Caller, tickets_end_at: float) -> None:
    since = time.monotonic()
    while (left := await _left_by(manager, keeper)) or time.monotonic() < tickets_end_at:
        if time.monotonic() > since + LEASES_END_WITHIN:
            what = f"did not come to rest: {left}"
            manager.record.add(Fault(BREAKDOWN, "the farm", since, time.monotonic(), what))
            return
        await asyncio.sleep(0.5)


async def _left_by(manager: Caller, keeper: Caller) -> str:
    """What is not free when the manager has restored users and the keeper has cleaned them."""
    body = {"action": "restore", "filter": {"state": "quarantined"}}
    await manager.call("change_users", "POST", "/users/bulk", replica=0, body=body)
    for pool in POOLS:
        while await _cleaned_one(keeper, pool.body):
            pass
    return await _left(manager)


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


async def _left(manager: Caller) -> str:
    """Users that cannot be had, and requests that wait; nothing at last."""
    users = await manager.call("get_users", "GET", "/users?limit=1000", replica=0)
    waiting = await manager.call("get_waiting", "GET", "/leases/waiting", replica=0)
    if users.status != 200 or waiting.status != 200:
        return f"lists were answered {users.status} and {waiting.status}"
    left = [
        f"{user['login']} is {user['state']}"
        for user in users.answer["items"]
        if user["state"] not in {"free", "retired"}
    ]
    left += [f"{len(waiting.answer['items'])} requests wait"] if waiting.answer["items"] else []
    return ", ".join(left)


async def _tidy_up(farm: ChaosFarm, worker: FarmProcess) -> None:
    """A worker that starts rolls up and prunes at once. By then all leases have ended long enough before."""
    connection = await asyncpg.connect(farm.database.url)
    try:
        since = time.monotonic()
        if not await _is_so_within(LEASES_END_WITHIN, partial(connection.fetchval, _LEASES_HAVE_SETTLED)):
            worker.broke_down("finds leases that do not end", since)
        settled_at = await connection.fetchval("SELECT clock_timestamp()")
        async with worker.turn:
            await worker.terminate()
            await farm.start(worker)
        since = time.monotonic()
        for wrong, is_right in _TIDIED_UP.items():
            question = partial(connection.fetchval, is_right, settled_at)
            if not await _is_so_within(COMES_BACK_WITHIN, question):
                worker.broke_down(wrong, since)
    finally:
        await connection.close()
