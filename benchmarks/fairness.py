"""Who came first is served first, across replicas: many callers, few users, and a log of arrivals and grants."""

import asyncio
import random
import time
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from itertools import accumulate
from typing import Any

from benchmarks.client import connected
from benchmarks.farm import Farm
from benchmarks.run import Run

_CALLERS = 300
_HELD_SECONDS = 0.02
_LONGEST = 100.0
TOLERANCE = 0.1
"""Seconds: who came so much later, and no more, may be served first."""
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Ticket:
    arrived: float
    granted: float
    """By the database's clock, which all replicas share; NEVER when the wait was over first."""


async def measure_fairness(farm: Farm, project: str, run: Run) -> None:
    tickets: list[Ticket] = []
    deadline = time.monotonic() + _LONGEST
    randomness = random.Random(1)

    async def call(port: int) -> None:
        async with connected(port, farm.token) as connection:
            while len(tickets) < run.plan.grants and time.monotonic() < deadline:
                arrived = time.monotonic()
                status, answer = await connection.request(
                    "POST", "/leases", {"project": project, "env": "stage", "wait_seconds": 60}
                )
                tickets.append(Ticket(arrived, _granted_at(status, answer)))
                if status == HTTPStatus.CREATED:
                    await asyncio.sleep(randomness.uniform(0, _HELD_SECONDS))
                    await connection.release(answer)

    began = time.monotonic()
    await asyncio.gather(*(call(farm.ports[number % len(farm.ports)]) for number in range(_CALLERS)))
    took = time.monotonic() - began
    waits = sorted(ticket.arrived for ticket in tickets)
    run.results.add(
        "fairness",
        grants=sum(ticket.granted != NEVER for ticket in tickets),
        replicas=len(farm.ports),
        overtaken=count_overtaken(tickets),
        not_granted=sum(ticket.granted == NEVER for ticket in tickets),
        grants_per_second=len(tickets) / took,
        seconds=waits[-1] - waits[0],
    )


def count_overtaken(tickets: list[Ticket]) -> int:
    """Tickets that somebody who came later by more than the tolerance was served before."""
    by_arrival = sorted(tickets, key=lambda ticket: ticket.arrived)
    arrivals = [ticket.arrived for ticket in by_arrival]
    # The earliest grant of those that came at this place or later; nobody came after the last.
    earliest = [NEVER, *accumulate((ticket.granted for ticket in reversed(by_arrival)), min)][::-1]
    return sum(
        earliest[bisect_right(arrivals, ticket.arrived + TOLERANCE)] < ticket.granted for ticket in by_arrival
    )


def _granted_at(status: int, answer: dict[str, Any]) -> float:
    if status == HTTPStatus.CREATED:
        return datetime.fromisoformat(answer["acquired_at"]).timestamp()
    if status == HTTPStatus.CONFLICT:
        return NEVER
    raise RuntimeError(f"{status} {answer}")
