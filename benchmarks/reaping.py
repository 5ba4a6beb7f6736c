"""Acquires before and during the reaping of many expired leases, within one run of the load."""

import asyncio
import time
from datetime import datetime

import asyncpg

from benchmarks.database import HOLDER, fetch_value, with_connection
from benchmarks.farm import Farm
from benchmarks.filling import hold_users
from benchmarks.load import Load, Wrk, milliseconds
from benchmarks.run import Run

_CONNECTIONS = 64
_LONGEST = 90.0
# Of the leases of HOLDER, only those of this pool end within the hour. They all end at nearly the same time.
_OLDEST_OPEN = """
    SELECT expires_at FROM leases WHERE ended_at IS NULL AND principal = $1
    AND expires_at < clock_timestamp() + interval '1 hour' ORDER BY expires_at LIMIT 1"""


def measure_reaping(farm: Farm, run: Run) -> None:
    plan = run.plan
    project_id = farm.add_pool("expiring", plan.expired)
    lifetime = 3 + plan.seconds + plan.expired / 4_000
    began = time.monotonic()
    hold_users(farm.database_url, project_id, percent=100, seconds=lifetime)
    expires_at = _monotonic_of(farm, fetch_value(farm.database_url, _OLDEST_OPEN, HOLDER))
    load = Wrk(
        run.tools.wrk,
        ports=farm.ports,
        token=farm.token,
        project=f"pool-{plan.pool_sizes[0]}",
        connections=_CONNECTIONS,
        count=1,
        seconds=int(lifetime + _LONGEST),
    )
    try:
        reaping_from, reaped_at = with_connection(farm.database_url, _watch)
    finally:
        measured = load.stop()
    if load.started + 2 > expires_at:
        raise RuntimeError(
            f"the set-up took {load.started - began:.0f} s: too long to measure before leases expire"
        )
    _add_row(measured, (load.started + 1, expires_at), (reaping_from, reaped_at), run)
    farm.clear()


def _add_row(load: Load, without: tuple[float, float], during: tuple[float, float], run: Run) -> None:
    before, meanwhile = load.between(*without), load.between(*during)
    p99 = [milliseconds(part.acquires, 0.99) for part in (before, meanwhile)]
    run.results.add(
        "reaping",
        acquire_p99_ms_without=p99[0],
        acquire_p99_ms_during=p99[1],
        ratio=p99[1] / p99[0],
        leases=run.plan.expired,
        seconds=during[1] - during[0],
        acquires_during=meanwhile.acquires.total(),
        failures=before.failures + meanwhile.failures,
    )


async def _watch(connection: asyncpg.Connection) -> tuple[float, float]:
    """When the first and the last lease were reaped, on the monotonic clock."""
    first: datetime | None = await connection.fetchval(_OLDEST_OPEN, HOLDER)
    began = None
    deadline = time.monotonic() + _LONGEST
    while (oldest := await connection.fetchval(_OLDEST_OPEN, HOLDER)) is not None:
        if began is None and oldest != first:
            began = time.monotonic()
        if time.monotonic() > deadline:
            raise RuntimeError(f"not reaped within {_LONGEST:.0f} s")
        await asyncio.sleep(0.05)
    return began or time.monotonic(), time.monotonic()


def _monotonic_of(farm: Farm, moment: datetime) -> float:
    left = fetch_value(farm.database_url, "SELECT extract(epoch FROM $1 - clock_timestamp())::float8", moment)
    return time.monotonic() + float(left)
