"""Pages of lists in a farm with a long history: `python -m benchmarks.lists`; a quarter of an hour, 10 GB of disk."""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from urllib.parse import urlencode
from uuid import UUID

from benchmarks.client import Connection, connected, expect
from benchmarks.database import execute, fetch_value, running_postgres, settle
from benchmarks.farm import Farm, running_farm

TURNS = 40
LIMIT = 100
_BATCH = 500_000
# Of each thousand users so many are not active.
_DIRTY, _QUARANTINED, _RETIRED, _FAILING = 5, 5, 10, 5
_BUSY_USERS_SHARE = 0.01
"""Of all leases, those of the user with the longest history."""

_ADD_USERS = """
    INSERT INTO users (login, login_key, password, project_id, env, domain, labels, status, status_since, status_by,
                       status_reason, health, id)
    SELECT 'user-' || n || '@shop.test', 'user-' || n || '@shop.test', 'none is read', $1,
           (ARRAY['prod', 'preprod', 'stage'])[1 + n % 3], (ARRAY['regular', 'canary'])[1 + n % 2],
           jsonb_build_object('plan', (ARRAY['free', 'paid'])[1 + n % 2]),
           status, CASE WHEN status <> 'active' THEN now() END, CASE WHEN status <> 'active' THEN 'policy' END,
           CASE WHEN status = 'quarantined' THEN 'captcha' END,
           CASE WHEN n % 1000 >= 1000 - $2 THEN 'failing' ELSE 'ok' END, gen_random_uuid()
    FROM generate_series($3::int, $4::int) AS n,
         LATERAL (SELECT CASE WHEN n % 1000 < $5 THEN 'dirty' WHEN n % 1000 < $6 THEN 'quarantined'
                              WHEN n % 1000 < $7 THEN 'retired' ELSE 'active' END AS status) AS chosen"""

# Each lease belongs to one user, taken in turn; every hundredth to the busiest one.
_ADD_LEASES = """
    WITH numbered AS (SELECT id, env, domain, row_number() OVER () AS n FROM users WHERE project_id = $1),
    l AS (
        INSERT INTO leases (fence, principal, operation, purpose, project_id, env, domain, user_ids, acquired_at,
                            expires_at, ttl_seconds, hold_until, ended_at, ended_by, outcome, requested_at, waited)
        SELECT nextval('fence'), 'token:load', 'acquire_lease', 'test', $1, env, domain, ARRAY[numbered.id], since,
               since + interval '15 min', 900, since + interval '12 h', since + interval '1 min', 'released', 'ok',
               since, 0
        FROM generate_series($2::int, $3::int) AS place
        JOIN numbered ON numbered.n = CASE WHEN place % $5 = 0 THEN 1 ELSE 1 + place % $4 END,
             LATERAL (SELECT now() - interval '30 d' + place * interval '0.25 s' AS since) AS at
        RETURNING fence, user_ids
    )
    INSERT INTO lease_users (user_id, fence) SELECT user_ids[1], fence FROM l"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lists", description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--leases", type=int, default=10_000_000)
    plan = parser.parse_args()
    with running_postgres() as postgres, running_farm(postgres, "lists", replicas=1) as farm:
        busiest = fill(farm, users=plan.users, leases=plan.leases)
        rows = asyncio.run(measure(farm, busiest))
    print(
        f"\n{plan.users:,} users, {plan.leases:,} leases; pages of {LIMIT}, {TURNS} times each, milliseconds\n"
    )
    print("| page | median | longest |\n|---|---|---|")
    for name, seconds in rows.items():
        print(f"| {name} | {statistics.median(seconds) * 1e3:.1f} | {max(seconds) * 1e3:.1f} |")


def fill(farm: Farm, *, users: int, leases: int) -> UUID:
    """Returns the user with the longest history."""
    url, project_id = farm.database_url, farm.add_pool("shop", 0)
    bounds = (_DIRTY, _DIRTY + _QUARANTINED, _DIRTY + _QUARANTINED + _RETIRED)
    for first in range(1, users + 1, _BATCH):
        execute(url, _ADD_USERS, project_id, _FAILING, first, min(users, first + _BATCH - 1), *bounds)
    for first in range(1, leases + 1, _BATCH):
        last = min(leases, first + _BATCH - 1)
        execute(url, _ADD_LEASES, project_id, first, last, users, round(1 / _BUSY_USERS_SHARE))
        print(f"{last:,} leases", flush=True)
    execute(url, "VACUUM ANALYZE lease_users")
    settle(url)
    most = "SELECT user_id FROM lease_users GROUP BY user_id ORDER BY count(*) DESC LIMIT 1"
    busiest: UUID = fetch_value(url, most)
    return busiest


async def measure(farm: Farm, busiest: UUID) -> dict[str, list[float]]:
    """Seconds of each request, by the name of the page."""
    project = str(farm.projects["shop"])
    pages: dict[str, tuple[str, Mapping[str, object]]] = {
        "history of the user with the longest one": (f"/users/{busiest}/history", {}),
        "its leases": ("/leases", {"user_id": busiest}),
        "users": ("/users", {}),
        "users of a pool": ("/users", {"project_id": project, "env": "stage", "domain": "canary"}),
        "dirty users": ("/users", {"project_id": project, "state": "dirty"}),
        "quarantined users": ("/users", {"state": "quarantined"}),
        "retired users of a pool": (
            "/users",
            {"project_id": project, "env": "stage", "domain": "canary", "state": "retired"},
        ),
        "free users with a label": ("/users", {"state": "free", "label": "plan:paid"}),
        "users whose health is failing": ("/users", {"health": "failing"}),
        "users whose login has a text": ("/users", {"login": "user-99999"}),
    }
    found: dict[str, list[float]] = {}
    async with connected(farm.ports[0], farm.token) as connection:
        for name, (path, query) in pages.items():
            found[name] = [seconds async for seconds in _turns(connection, path, query)]
    return found


async def _turns(connection: Connection, path: str, query: Mapping[str, object]) -> AsyncIterator[float]:
    """Page after page, from the start again after the last one."""
    cursor: str | None = None
    for _ in range(TURNS):
        asked = {"limit": LIMIT, **query, **({"cursor": cursor} if cursor else {})}
        started = time.perf_counter()
        answer = await connection.request("GET", f"{path}?{urlencode(asked)}")
        yield time.perf_counter() - started
        cursor = expect(HTTPStatus.OK, answer)["next_cursor"]


if __name__ == "__main__":
    main()
