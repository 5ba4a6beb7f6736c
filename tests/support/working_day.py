"""A fortnight of runs in the demo farm, and a working day: what the pictures of the page show."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import asyncpg
import httpx

from support.farm import TOKEN
from support.page_stock import Json

# At each hour of a working day several runs begin at once. One takes six minutes, and five of them have a user.
_HISTORY = """
    WITH runs AS (
        SELECT morning + hour * interval '1 hour' AS requested_at, floor(place / 5) * 360 AS waited,
               members[1 + place % 5] AS user_id
        FROM generate_series(date_trunc('day', now()) - interval '14 days', now(), interval '1 day') AS day,
             LATERAL (SELECT day + interval '7 hours' AS morning) AS m,
             unnest(ARRAY[3, 4, 6, 9, 7, 4, 5, 12, 6, 3]) WITH ORDINALITY AS h (runs, hour),
             generate_series(0, h.runs - 1 - extract(day FROM day)::int % 3) AS place,
             (SELECT array_agg(id ORDER BY login) AS members FROM users WHERE project_id = $1 AND env = 'stage'
              AND domain = 'canary') AS u
        WHERE morning + hour * interval '1 hour' < now() - interval '1 hour'
        ORDER BY morning, hour, place
    ),
    l AS (
        INSERT INTO leases (fence, principal, operation, purpose, project_id, env, domain, user_ids, requested_at,
                            waited, acquired_at, expires_at, ttl_seconds, hold_until, ended_at, ended_by, outcome,
                            owner)
        SELECT nextval('fence'), 'token:shop-ci', 'acquire_lease', 'test', $1, 'stage', 'canary', ARRAY[user_id],
               requested_at, waited, had, had + interval '15 min', 900, had + interval '12 h',
               had + interval '6 min', 'released', 'ok', 'github acme/shop e2e'
        FROM runs, LATERAL (SELECT requested_at + waited * interval '1 s' AS had) AS h
        RETURNING fence, user_ids
    )
    INSERT INTO lease_users (user_id, fence) SELECT user_ids[1], fence FROM l"""

# As if what the leases of now say had happened so many minutes earlier.
_EARLIER = """
    WITH l AS (
        UPDATE leases SET acquired_at = acquired_at - ago, requested_at = requested_at - ago,
                          ended_at = ended_at - ago
        FROM (SELECT $2 * interval '1 min' AS ago) AS a WHERE id = $1 RETURNING id, acquired_at
    )
    UPDATE users SET locktime = l.acquired_at FROM l WHERE users.lease_id = l.id"""

# Project, env, domain, number of the user, minutes ago, job.
_RUNNING = [
    ("shop", "stage", "canary", 1, 2, "checkout"),
    ("shop", "stage", "canary", 2, 3, "checkout"),
    ("shop", "stage", "canary", 3, 4, "search"),
    ("shop", "stage", "canary", 4, 5, "search"),
    ("shop", "stage", "canary", 5, 9, "nightly"),
    ("shop", "stage", "regular", 1, 1, "checkout"),
    ("shop", "stage", "regular", 2, 6, "returns"),
    ("shop", "preprod", "regular", 1, 12, "release"),
    ("bank", "stage", "regular", 1, 3, "transfers"),
    ("bank", "stage", "regular", 2, 3, "transfers"),
    ("bank", "prod", "canary", 1, 14, "smoke"),
]
_WAITING = ["checkout", "search", "returns"]


async def add_history(sql: asyncpg.Connection, project_id: UUID) -> None:
    await sql.execute(_HISTORY, project_id)


@asynccontextmanager
async def working_day(url: str, person: Json, sql: asyncpg.Connection) -> AsyncIterator[dict[str, str]]:
    """Runs that have users, and in the block runs that wait. `person` is the cookie of an operator.

    Gives the ids of users by their logins.
    """
    async with AsyncExitStack() as closing:

        async def caller(**credentials: object) -> httpx.AsyncClient:
            client = httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=60, verify=False, **credentials)
            return await closing.enter_async_context(client)

        async def machine(name: str, role: str) -> httpx.AsyncClient:
            body = {"name": name, "role": role, "projects": ["*"], "envs": ["*"]}
            token = (await _post(admin, "/tokens", body))["token"]
            return await caller(headers={"Authorization": f"Bearer {token}"})

        admin = await caller(headers={"Authorization": f"Bearer {TOKEN}"})
        dana = await caller(cookies={person["name"]: person["value"]})
        ci, keeper = await machine("ci", "runner"), await machine("keeper", "keeper")
        users = {each["login"]: each["id"] for each in (await admin.get("/users?limit=100")).json()["items"]}

        for number, (project, env, domain, user, minutes, job) in enumerate(_RUNNING):
            user_id = users[f"{domain}-{user}@{env}.{project}.test"]
            lease = await _post(ci, f"/users/{user_id}/acquire_lock", _run(project, job, 4700 + number))
            await sql.execute(_EARLIER, lease["id"], minutes)
        await _mend(ci, keeper, dana, users)
        waiting = [asyncio.create_task(_wait(ci, job, 4720 + place)) for place, job in enumerate(_WAITING)]
        while len((await admin.get("/leases/waiting")).json()["items"]) < len(waiting):
            await asyncio.sleep(0.05)
        await sql.execute("UPDATE tickets SET arrived_at = arrived_at - interval '2 min'")
        yield users
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)


async def _mend(
    ci: httpx.AsyncClient, keeper: httpx.AsyncClient, dana: httpx.AsyncClient, users: dict[str, str]
) -> None:
    """Users that are out of service, and why."""
    broken = users["regular-3@stage.shop.test"]
    for note in ("the sign-in asks for a picture puzzle", "again"):
        lease = await _post(ci, f"/users/{broken}/acquire_lock", _run("shop", "returns", 4698))
        verdict = {"outcome": "broken", "reason": "captcha", "note": note}
        await _post(ci, f"/leases/{lease['id']}/release", verdict)
    await _post(dana, f"/users/{broken}/quarantine", {"reason": "captcha since this morning, see SHOP-1412"})
    held = {"purpose": "hold", "user_id": users["regular-4@stage.shop.test"], "note": "I look into SHOP-1409"}
    await _post(dana, "/leases", held)
    dirty = [users[f"canary-{number}@preprod.shop.test"] for number in (1, 2)]
    for user_id in dirty:
        await _post(dana, f"/users/{user_id}/quarantine", {"reason": "a cart is left"})
        await _post(dana, f"/users/{user_id}/restore", {"clean": True})
    chore = {"purpose": "chore", "project": "shop", "env": "preprod", "domain": "canary"}
    await _post(keeper, "/leases", chore)
    await _post(
        dana, f"/users/{users['regular-5@prod.bank.test']}/retire", {"reason": "the bank has closed it"}
    )


async def _wait(ci: httpx.AsyncClient, job: str, number: int) -> None:
    pool = {"project": "shop", "env": "stage", "domain": "canary"}
    await ci.post("/leases", json={**pool, **_run("shop", job, number), "wait_seconds": 300})


def _run(project: str, job: str, number: int) -> Json:
    """What a lease says of the CI job that has it."""
    url = f"https://ci.test/acme/{project}/runs/{number}"
    return {"owner": f"github acme/{project} {job} #{number}", "metadata": {"job_url": url, "branch": "main"}}


async def _post(caller: httpx.AsyncClient, path: str, body: Json) -> Json:
    return dict((await caller.post(path, json=body)).raise_for_status().json())
