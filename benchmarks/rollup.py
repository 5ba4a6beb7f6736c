"""Rolls up a day of a busy farm: `python -m benchmarks.rollup`; ten minutes, 2 GB of disk."""

import argparse
import asyncio
import os
import time

from benchmarks.database import Postgres, execute, fetch_value, running_postgres, settle
from benchmarks.machine import tree_cpu_seconds
from botfarm.crypto.key_ring import generate_key
from botfarm.runtime.services import open_services
from botfarm.settings import load_settings

POOLS = 20
USERS = 10_000
_BATCH = 100_000

_ADD_USERS = """
    INSERT INTO users (login, login_key, password, project_id, env, domain, id)
    SELECT 'user-' || n || '@shop.test', 'user-' || n || '@shop.test', 'none is read', $1,
           (ARRAY['prod', 'preprod', 'stage'])[1 + n % 3], (ARRAY['regular', 'canary'])[1 + n % 2], gen_random_uuid()
    FROM generate_series(1, $2::int) AS n"""

# Evenly over the day that ended three hours ago, each held for five minutes, every tenth after a wait, every hundredth
# broken, every thousandth expired.
_ADD_LEASES = """
    WITH l AS (
        INSERT INTO leases (fence, principal, operation, purpose, project_id, env, domain, user_ids, acquired_at,
                            expires_at, ttl_seconds, hold_until, ended_at, ended_by, outcome, reason, requested_at,
                            waited)
        SELECT nextval('fence'), 'token:load', 'acquire_lease', 'test', p.id,
               (ARRAY['prod', 'preprod', 'stage'])[1 + n % 3], (ARRAY['regular', 'canary'])[1 + n % 2],
               ARRAY[gen_random_uuid()], since, since + interval '15 min', 900, since + interval '12 h',
               since + interval '5 min', CASE WHEN n % 1000 = 0 THEN 'expired' ELSE 'released' END,
               CASE WHEN n % 1000 = 0 THEN NULL WHEN n % 100 = 0 THEN 'broken' ELSE 'ok' END,
               CASE WHEN n % 1000 <> 0 AND n % 100 = 0 THEN 'captcha' END,
               since - make_interval(secs => wait.seconds), wait.seconds
        FROM generate_series($1::int, $2::int) AS n,
             LATERAL (SELECT id FROM projects ORDER BY id OFFSET n % $4 LIMIT 1) AS p,
             LATERAL (SELECT CASE WHEN n % 10 = 0 THEN n % 300 ELSE 0.01 END AS seconds) AS wait,
             LATERAL (SELECT now() - interval '27 h' + n * interval '24 h' / $3::int AS since) AS at
        RETURNING fence, user_ids
    )
    INSERT INTO lease_users (user_id, fence) SELECT user_ids[1], fence FROM l"""

_ADD_PROJECT = """
    INSERT INTO projects (id, name, default_ttl, max_ttl, max_hold, lock_delay, cooldown)
    VALUES (gen_random_uuid(), $1, 900, 14400, 43200, 15, 0) RETURNING id"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollup", description=__doc__)
    parser.add_argument("--leases", type=int, default=1_000_000)
    plan = parser.parse_args()
    with running_postgres() as postgres:
        url = postgres.create_database("rollups")
        fill(url, leases=plan.leases)
        load = os.getloadavg()[0]
        print(
            f"\n{plan.leases:,} leases in a day, {POOLS} projects; load of the machine {load:.1f}\n",
            flush=True,
        )
        print("| | seconds | of the processor, in PostgreSQL | transactions |\n|---|---|---|---|")
        for name, found in asyncio.run(measure(url, postgres)).items():
            print(f"| {name} | {found[0]:.2f} | {found[1]:.2f} | {found[2]} |", flush=True)
        print(f"\n{fetch_value(url, 'SELECT count(*) FROM rollups'):,} rollups")


def fill(url: str, *, leases: int) -> None:
    projects = [fetch_value(url, _ADD_PROJECT, f"shop-{number}") for number in range(POOLS)]
    execute(url, _ADD_USERS, projects[0], USERS)
    for first in range(1, leases + 1, _BATCH):
        execute(url, _ADD_LEASES, first, min(leases, first + _BATCH - 1), leases, POOLS)
        print(f"{min(leases, first + _BATCH - 1):,} leases", flush=True)
    settle(url)


async def measure(url: str, postgres: Postgres) -> dict[str, tuple[float, float, int]]:
    """Seconds, those of the processor, and transactions: of the whole day, and of a run of the worker after it."""
    settings = load_settings(database_url=url, encryption_keys=generate_key("benchmark"))
    found = {}
    async with open_services(settings, "benchmark", in_background=True) as services:
        for name in ("the whole day", "the next run"):
            started, used = time.perf_counter(), tree_cpu_seconds(postgres.pid)
            transactions = await services.rollups.roll_up(asyncio.Event())
            used = tree_cpu_seconds(postgres.pid) - used
            found[name] = (time.perf_counter() - started, used, transactions)
    return found


if __name__ == "__main__":
    main()
