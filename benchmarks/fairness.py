"""Fairness across replicas, first come, first served: many callers, few users, the times of all grants."""

import asyncio
import random
import statistics
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import accumulate
from uuid import UUID

import asyncpg
import uvloop

from benchmarks.client import connected
from benchmarks.database import with_connection
from benchmarks.farm import Farm
from benchmarks.run import Run

_CALLERS = 150
_STARTED_WITHIN = 2.0
"""Seconds. Callers that start at once would measure how fast the replicas accept connections."""
_HELD_SECONDS = 0.2
"""At most. Long enough that users are scarce: otherwise requests would queue for the CPU, without tickets."""
_LONGEST = 100.0
TOLERANCE = 0.02
"""Seconds. A request that was received up to this much later may be served first."""
_GRANTS = """
    SELECT extract(epoch FROM requested_at)::float8 AS received, extract(epoch FROM acquired_at)::float8 AS granted
    FROM leases WHERE project_id = $1"""


@dataclass(frozen=True, slots=True)
class Grant:
    """In seconds by the clock of the database, which all replicas share."""

    received: float
    """When a replica received the request."""
    granted: float


@dataclass(slots=True)
class _Calls:
    waits: list[float] = field(default_factory=list)
    """Seconds until each answer."""
    refused: int = 0


def measure_fairness(farm: Farm, project: str, run: Run) -> None:
    began = time.monotonic()
    calls = uvloop.run(_call(farm, project, run.plan.grants))
    took = time.monotonic() - began
    grants = _read_grants(farm, farm.projects[project])
    margins = by_how_much_overtaken(grants)
    run.results.add(
        "fairness",
        grants=len(grants),
        replicas=len(farm.ports),
        overtaken=sum(margin > TOLERANCE for margin in margins),
        worst_seconds=max(margins),
        not_granted=calls.refused,
        grants_per_second=len(grants) / took,
        median_wait_seconds=statistics.median(calls.waits),
    )


async def _call(farm: Farm, project: str, wanted: int) -> _Calls:
    calls = _Calls()
    deadline = time.monotonic() + _LONGEST
    randomness = random.Random(1)

    async def call(port: int) -> None:
        await asyncio.sleep(randomness.uniform(0, _STARTED_WITHIN))
        async with connected(port, farm.token) as connection:
            while len(calls.waits) < wanted and time.monotonic() < deadline:
                sent = time.monotonic()
                status, answer = await connection.request(
                    "POST", "/leases", {"project": project, "env": "stage", "wait_seconds": 60}
                )
                calls.waits.append(time.monotonic() - sent)
                if status == HTTPStatus.CREATED:
                    await asyncio.sleep(randomness.uniform(0, _HELD_SECONDS))
                    await connection.release(answer)
                elif status == HTTPStatus.CONFLICT:
                    calls.refused += 1
                else:
                    raise RuntimeError(f"{status} {answer}")

    await asyncio.gather(*(call(farm.ports[number % len(farm.ports)]) for number in range(_CALLERS)))
    return calls


def _read_grants(farm: Farm, project_id: UUID) -> list[Grant]:
    async def read(connection: asyncpg.Connection) -> list[Grant]:
        return [Grant(**row) for row in await connection.fetch(_GRANTS, project_id)]

    return with_connection(farm.database_url, read)


def by_how_much_overtaken(grants: Sequence[Grant]) -> list[float]:
    """For each grant: how much later the newest of the requests granted before it was received, in seconds.

    At least 0, which means that it was not overtaken. Leases of one batch have been granted at one moment, and none
    of them overtakes another.
    """
    in_order = sorted(grants, key=lambda grant: grant.granted)
    moments = [grant.granted for grant in in_order]
    newest = [float("-inf"), *accumulate((grant.received for grant in in_order), max)]
    return [max(0.0, newest[bisect_left(moments, grant.granted)] - grant.received) for grant in in_order]
