"""Fairness across replicas, first come, first served: many callers, few users, the times of all grants."""

import asyncio
import random
import statistics
import time
from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import accumulate
from typing import Any

from benchmarks.client import connected
from benchmarks.farm import Farm
from benchmarks.run import Run

_CALLERS = 150
_STARTED_WITHIN = 2.0
"""Seconds. Callers that start at once would measure how fast the replicas accept connections."""
_HELD_SECONDS = 0.2
"""At most. Long enough that users are scarce: otherwise requests would queue for the CPU, without tickets."""
_LONGEST = 100.0
TOLERANCE = 0.1
"""Seconds. A request that arrived up to this much later may be served first."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Ticket:
    arrived: float
    granted: float
    """By the clock of the database, which all replicas share. NEVER for a request that timed out."""
    waited: float


async def measure_fairness(farm: Farm, project: str, run: Run) -> None:
    tickets: list[Ticket] = []
    deadline = time.monotonic() + _LONGEST
    randomness = random.Random(1)

    async def call(port: int) -> None:
        await asyncio.sleep(randomness.uniform(0, _STARTED_WITHIN))
        async with connected(port, farm.token) as connection:
            while len(tickets) < run.plan.grants and time.monotonic() < deadline:
                arrived = time.monotonic()
                status, answer = await connection.request(
                    "POST", "/leases", {"project": project, "env": "stage", "wait_seconds": 60}
                )
                waited = time.monotonic() - arrived
                tickets.append(Ticket(arrived, _granted_at(status, answer), waited))
                if status == HTTPStatus.CREATED:
                    await asyncio.sleep(randomness.uniform(0, _HELD_SECONDS))
                    await connection.release(answer)

    began = time.monotonic()
    await asyncio.gather(*(call(farm.ports[number % len(farm.ports)]) for number in range(_CALLERS)))
    took = time.monotonic() - began
    margins = by_how_much_overtaken(tickets)
    run.results.add(
        "fairness",
        grants=sum(ticket.granted != NEVER for ticket in tickets),
        replicas=len(farm.ports),
        overtaken=len(margins),
        worst_seconds=max(margins, default=0.0),
        not_granted=sum(ticket.granted == NEVER for ticket in tickets),
        grants_per_second=len(tickets) / took,
        median_wait_seconds=statistics.median(ticket.waited for ticket in tickets),
    )


def by_how_much_overtaken(tickets: list[Ticket]) -> list[float]:
    """For each overtaken ticket: how long it had waited when the newest request served before it arrived.

    In seconds. Values within the tolerance are left out.
    """
    served = sorted(tickets, key=lambda ticket: ticket.granted)
    newest = accumulate((ticket.arrived for ticket in served), max)
    grants = [ticket.granted for ticket in served]
    newest_before = [-NEVER, *newest]
    margins = (newest_before[bisect_left(grants, ticket.granted)] - ticket.arrived for ticket in served)
    return [margin for margin in margins if margin > TOLERANCE]


def _granted_at(status: int, answer: dict[str, Any]) -> float:
    if status == HTTPStatus.CREATED:
        return datetime.fromisoformat(answer["acquired_at"]).timestamp()
    if status == HTTPStatus.CONFLICT:
        return NEVER
    raise RuntimeError(f"{status} {answer}")
