"""A recorded run of the real farm, replayed, gives the same waits.

Between two events of the run a hundred seconds pass at once. So waits are long, and what the farm itself takes for a
grant does not matter: the resolution is the time that the whole run has taken.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from botfarm.db.usage import demand_queries
from botfarm.db.waiting import queue_queries
from botfarm.domain.leases import Grant, LeaseTerms, Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.projects import ProjectPolicy
from botfarm.services.usage.demand import demand_of
from botfarm.services.usage.replay import replay
from botfarm.services.waiting.fair_order import grantable
from support.farm import RUNNER, Connection, Farm, open_farm
from support.time_travel import pass_time

STEP = 100.0
# A ticket ranks by its arrival; its deadline is of the real clock.
TICKETS_AGE = "UPDATE tickets SET arrived_at = arrived_at - $1::interval, rank = rank - $1::interval"
POLICY = {"cooldown": 200, "default_ttl": 86_400, "max_ttl": 86_400, "max_hold": 86_400}


@pytest.fixture
async def patient_farm(database_url: str) -> AsyncIterator[Farm]:
    async with open_farm(database_url, max_wait=300) as opened:
        yield opened


@dataclass
class Run:
    """Asks and releases, one event after the other."""

    farm: Farm
    pool: Pool
    asked: list["asyncio.Task[Grant]"] = field(default_factory=list)
    released: set[int] = field(default_factory=set)

    async def ask(self, *, count: int = 1, priority: int = 0, **labels: str) -> None:
        await self._pass_a_step()
        acquiring = self.farm.services.acquiring.acquire_lease(
            RUNNER,
            project=self.pool.project_id,
            env=self.pool.env,
            domain=self.pool.domain,
            labels=labels,
            count=count,
            priority=priority,
            terms=LeaseTerms(),
            wait_seconds=300,
            connection=Connection(),
        )
        self.asked.append(asyncio.create_task(acquiring))
        async with asyncio.timeout(60):
            while len(await self._tickets()) + sum(task.done() for task in self.asked) < len(self.asked):
                await asyncio.sleep(0.005)
        await self._settle()

    async def release(self, chance: random.Random) -> None:
        """One of the leases."""
        await self._pass_a_step()
        if held := self.held():
            number = chance.choice(held)
            self.released.add(number)
            await self.farm.release(self.asked[number].result().lease)
        await self._settle()

    def held(self) -> list[int]:
        return [n for n, task in enumerate(self.asked) if task.done() and n not in self.released]

    async def _pass_a_step(self) -> None:
        async with self.farm.sql.transaction():  # else a ticket could be granted between the two
            await pass_time(self.farm.sql, STEP)
            await self.farm.sql.execute(TICKETS_AGE, timedelta(seconds=STEP))
        self.farm.services.waiting_room.wake(self.pool.project_id)
        await self._settle()

    async def _settle(self) -> None:
        """Until no ticket could be granted: by then the farm has granted all that it can."""
        async with asyncio.timeout(60):
            while True:
                async with self.farm.database.direct() as executor:
                    queue = await queue_queries.read_queue(executor, self.pool, Purpose.TEST, replica=uuid4())
                granted = len(self.asked) - len(await self._tickets())
                if not grantable(queue) and sum(task.done() for task in self.asked) == granted:
                    return
                await asyncio.sleep(0.005)

    async def _tickets(self) -> list[object]:
        return list(
            await self.farm.sql.fetch("SELECT id FROM tickets WHERE project_id = $1", self.pool.project_id)
        )


async def waits_of(run: Run) -> tuple[list[float], list[float]]:
    """Those that the farm has recorded, and those of the replay, in the order of the arrivals."""
    farm, pool, since = run.farm, run.pool, datetime.now(UTC) - timedelta(days=2)
    async with farm.database.transaction() as session:
        leases = await demand_queries.read_leases(
            session, pool, since=since, first=0, before=demand_queries.ABOVE_ALL_FENCES, limit=1_000
        )
        users = await demand_queries.read_users(session, pool)
    demand = demand_of(leases, [], users, ProjectPolicy(**POLICY), since=since.timestamp())
    leases.sort(key=lambda lease: lease.requested_at)
    recorded = [lease.acquired_at - lease.requested_at for lease in leases]
    return recorded, replay(demand.requests, demand.users)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kinds", [[{}], [{"plan": "pro"}, {"plan": "free"}]], ids=["alike", "with labels"])
async def test_a_replay_gives_the_waits_of_the_farm(
    patient_farm: Farm, seed: int, kinds: list[dict[str, str]]
) -> None:
    """Counts, priorities, rest: whatever the farm's order knows. Each of the labels has users of its own."""
    chance = random.Random(seed)
    run = Run(patient_farm, await patient_farm.pool(0, **POLICY))
    for kind in kinds:
        for _ in range(3):
            await patient_farm.user(run.pool, **kind)
    started = time.monotonic()
    for _ in range(12):
        for _ in range(chance.randint(1, 2)):
            await run.ask(
                count=chance.choice([1, 1, 1, 2, 3]),
                priority=chance.choice([0, 0, 0, 2, 5]),
                **chance.choice(kinds),
            )
        await run.release(chance)
    while len(run.released) < len(run.asked):
        await run.release(chance)
    resolution = time.monotonic() - started
    recorded, replayed = await waits_of(run)
    assert sum(wait > STEP / 2 for wait in recorded) > len(recorded) / 3, "many have waited"
    assert resolution < STEP / 2
    assert replayed == pytest.approx(recorded, abs=resolution)
