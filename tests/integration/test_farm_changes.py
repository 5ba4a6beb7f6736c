"""The bell of open pages: what rings it, whom it wakes, and what it asks of the database."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from typing_extensions import override

from botfarm.db.postgres.engine import Database, create_engine
from botfarm.db.stock import change_queries
from botfarm.domain.access import EVERYTHING, Principal, Role, Scope
from botfarm.domain.leases import Lease
from botfarm.domain.pools import Pool
from botfarm.domain.projects import ProjectChanges
from botfarm.errors import ShuttingDownError, SlowDownError
from botfarm.services.shared.shutdown import Shutdown
from botfarm.services.stock import farm_changes
from botfarm.services.stock.farm_changes import FarmChanges, Reader
from support.farm import MANAGER, RUNNER, Farm
from support.postgres import served
from support.proxy import proxy_to
from support.statements import noted
from support.tickets import forge_replica, forge_ticket


class Steps(Shutdown):
    """A pause between two looks that lasts until the test asks for the next look."""

    def __init__(self) -> None:
        super().__init__()
        self._next = asyncio.Semaphore(0)
        self._looked = asyncio.Semaphore(0)

    @override
    async def pause(self, seconds: float) -> None:
        self._looked.release()
        await self._next.acquire()

    async def first_look(self) -> None:
        await asyncio.wait_for(self._looked.acquire(), 60)

    async def look(self) -> None:
        self._next.release()
        await self.first_look()


def somebody(scope: Scope = EVERYTHING) -> Principal:
    """Somebody else each time."""
    return Principal(f"operator:{uuid4()}", Role.VIEWER, scope)


class Bell:
    def __init__(self, database: Database) -> None:
        self.steps = Steps()
        self.changes = FarmChanges(database, self.steps)

    async def read(self, scope: Scope = EVERYTHING) -> Reader:
        """The first reader, which has been rung by the first look, as every reader is."""
        reader = self.changes.subscribe(somebody(scope))
        await self.steps.first_look()
        assert await has_rung(reader)
        return reader


async def has_rung(reader: Reader) -> bool:
    """Since the last call."""
    return await reader.next_ring(0) is not None


async def until_ended(reader: Reader) -> None:
    while await reader.next_ring(60):
        pass


@pytest.fixture
async def bell(farm: Farm) -> AsyncIterator[Bell]:
    opened = Bell(farm.database)
    yield opened
    await opened.changes.close()


@asynccontextmanager
async def counted(farm: Farm) -> AsyncIterator[list[str]]:
    asked: list[str] = []
    with noted(farm.database, lambda statement, _: asked.append(statement)):
        yield asked


async def test_nothing_is_asked_unless_somebody_reads(farm: Farm, bell: Bell) -> None:
    async with counted(farm) as asked:
        await farm.pool(1)
        assert asked == []
        with await bell.read():
            await bell.steps.look()
            assert len(asked) == 2
        bell.steps._next.release()
        async with asyncio.timeout(60):
            while bell.changes._watching:
                await asyncio.sleep(0)
        assert len(asked) == 2


async def test_any_number_of_readers_cost_one_query(
    farm: Farm, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farm_changes, "RINGS_PER_SECOND", 1_000_000)
    async with counted(farm) as asked:
        readers = [await bell.read(), *(bell.changes.subscribe(somebody()) for _ in range(299))]
        await bell.steps.look()
        await farm.pool(1)
        await bell.steps.look()
        assert len(asked) == 3
        assert all([await has_rung(reader) for reader in readers])


async def grant(farm: Farm, pool: Pool, _: Lease) -> None:
    await farm.acquire(pool)


async def release(farm: Farm, _: Pool, held: Lease) -> None:
    await farm.release(held)


async def renew(farm: Farm, _: Pool, held: Lease) -> None:
    await farm.services.leases.renew(RUNNER, held.id, ttl_seconds=1_000)


async def another_lease_for_one(farm: Farm, pool: Pool, held: Lease) -> None:
    await farm.release(held)
    await farm.acquire(pool)


async def short_lease(farm: Farm, pool: Pool, _: Lease) -> None:
    await farm.release(await farm.acquire(pool))


async def expire_unseen(farm: Farm, _: Pool, held: Lease) -> None:
    """By the clock alone: no row changes."""
    ends = await farm.sql.fetchval("SELECT expires_at FROM leases WHERE id = $1", held.id)
    async with asyncio.timeout(60):
        while await farm.sql.fetchval("SELECT clock_timestamp()") <= ends:
            await asyncio.sleep(0.01)


async def wait(farm: Farm, pool: Pool, _: Lease) -> None:
    await forge_ticket(farm, pool, await forge_replica(farm))


async def add_user(farm: Farm, pool: Pool, _: Lease) -> None:
    await farm.user(pool)


async def quarantine(farm: Farm, _: Pool, held: Lease) -> None:
    await farm.services.user_statuses.quarantine(MANAGER, held.users[0].id, reason="captcha", until=None)


async def change_project(farm: Farm, pool: Pool, _: Lease) -> None:
    await farm.services.projects.update(MANAGER, pool.project_id, ProjectChanges(cooldown=7))


Change = Callable[[Farm, Pool, Lease], Awaitable[None]]


@pytest.mark.parametrize(
    "change",
    [
        grant,
        release,
        renew,
        another_lease_for_one,
        short_lease,
        expire_unseen,
        wait,
        add_user,
        quarantine,
        change_project,
    ],
)
async def test_a_change_rings_once(farm: Farm, bell: Bell, change: Change) -> None:
    pool = await farm.pool(2)
    held = await farm.acquire(pool, ttl_seconds=2 if change is expire_unseen else 900)
    reader = await bell.read(Scope(frozenset({pool.project_id}), frozenset({"stage"})))
    await change(farm, pool, held)
    await bell.steps.look()
    assert await has_rung(reader)
    await bell.steps.look()
    assert not await has_rung(reader)


async def test_a_ticket_that_leaves_rings(farm: Farm, bell: Bell) -> None:
    pool = await farm.pool(1)
    ticket = await forge_ticket(farm, pool, await forge_replica(farm))
    reader = await bell.read()
    await farm.sql.execute("DELETE FROM tickets WHERE id = $1", ticket)
    await bell.steps.look()
    assert await has_rung(reader)


async def test_only_readers_whose_scope_has_changed_are_woken(farm: Farm, bell: Bell) -> None:
    pool, other = await farm.pool(1), await farm.pool(1)
    everything = await bell.read()
    ours, theirs, other_env, all_projects = (
        bell.changes.subscribe(somebody(Scope(projects, envs)))
        for projects, envs in (
            (frozenset({pool.project_id}), None),
            (frozenset({other.project_id}), None),
            (None, frozenset({"prod"})),
            (None, frozenset({"stage"})),
        )
    )
    readers = {
        "everything": everything,
        "ours": ours,
        "theirs": theirs,
        "other env": other_env,
        "all projects": all_projects,
    }

    async def woken() -> set[str]:
        await bell.steps.look()
        return {name for name, reader in readers.items() if await has_rung(reader)}

    assert await woken() == {"ours", "theirs", "other env", "all projects"}  # which are new
    await farm.acquire(pool)
    assert await woken() == {"everything", "ours", "all projects"}
    await farm.user(Pool(other.project_id, "prod", "regular"))
    assert await woken() == {"everything", "theirs", "other env"}
    await farm.services.projects.update(MANAGER, pool.project_id, ProjectChanges(cooldown=7))
    assert await woken() == {"everything", "ours", "other env", "all projects"}
    await farm.services.tokens.create(
        MANAGER, name="job", role=Role.RUNNER, projects=None, envs=None, max_leases=None, expires_in=None
    )
    assert await woken() == {"everything"}


async def test_a_change_between_a_page_and_its_subscription_rings(farm: Farm, bell: Bell) -> None:
    """The look that the others have had already does not count for a new reader."""
    pool = await farm.pool(1)
    first = await bell.read()
    await farm.acquire(pool)
    await bell.steps.look()
    late = bell.changes.subscribe(somebody())
    await bell.steps.look()
    assert await has_rung(first)
    assert await has_rung(late)
    await bell.steps.look()
    assert not await has_rung(late)


async def test_of_many_readers_each_is_rung_less_often_and_misses_nothing(
    farm: Farm, bell: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await farm.pool(2)
    reader = await bell.read()
    monkeypatch.setattr(farm_changes, "RINGS_PER_SECOND", 0.001)
    await farm.acquire(pool)
    await bell.steps.look()
    assert not await has_rung(reader)
    monkeypatch.setattr(farm_changes, "RINGS_PER_SECOND", 60)
    await bell.steps.look()
    assert await has_rung(reader)


async def test_an_entry_that_is_committed_after_a_later_one_rings(
    farm: Farm, bell: Bell, database_url: str
) -> None:
    insert = "INSERT INTO audit (principal, action, target, target_id) VALUES ('a', 'b', 'c', 'd')"
    slow = await asyncpg.connect(database_url)
    reader = await bell.read()
    async with slow.transaction():
        await slow.execute(insert)
        await farm.sql.execute(insert)
        await bell.steps.look()
        assert await has_rung(reader)
    await bell.steps.look()
    assert await has_rung(reader)
    await slow.close()


async def test_after_an_outage_everybody_is_rung(farm: Farm, database_url: str) -> None:
    """Pages that were fetched meanwhile show an error."""
    async with proxy_to(served(database_url)) as proxy:
        database = Database(create_engine(proxy.url, application_name="bell"))
        bell = Bell(database)
        reader = await bell.read()
        await proxy.cut()
        for _ in range(3):
            await bell.steps.look()
            assert not await has_rung(reader)
        await proxy.mend()
        await bell.steps.look()
        assert await has_rung(reader)
        await bell.steps.look()
        assert not await has_rung(reader)
        await farm.pool(1)
        await bell.steps.look()
        assert await has_rung(reader)
        await bell.changes.close()
        await database.dispose()


async def test_shutdown_ends_all_readers_at_once(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm_changes, "INTERVAL", 3_600)
    changes = farm.services.farm_changes
    readers = [changes.subscribe(somebody()) for _ in range(3)]
    for reader in readers:
        assert await reader.next_ring(60)
    waiting = [asyncio.create_task(reader.next_ring(3_600)) for reader in readers]
    await asyncio.sleep(0)
    farm.services.shutdown.begin()
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 60)
    assert {type(end) for end in ends} == {ShuttingDownError}
    with pytest.raises(ShuttingDownError):
        await until_ended(changes.subscribe(somebody()))


async def test_a_process_has_a_limited_number_of_readers(bell: Bell) -> None:
    readers = [bell.changes.subscribe(somebody()) for _ in range(500)]
    with pytest.raises(SlowDownError):
        bell.changes.subscribe(somebody())
    with readers[0]:
        pass
    bell.changes.subscribe(somebody())


async def test_one_principal_leaves_streams_for_others(bell: Bell) -> None:
    greedy = somebody()
    readers = [bell.changes.subscribe(greedy) for _ in range(50)]
    with pytest.raises(SlowDownError):
        bell.changes.subscribe(greedy)
    bell.changes.subscribe(somebody())
    with readers[0]:
        pass
    bell.changes.subscribe(greedy)


async def test_a_long_history_is_not_read(farm: Farm) -> None:
    """The plan of the statement, on tables with statistics."""
    pool = await farm.pool(1)
    await farm.acquire(pool)
    await farm.sql.execute(
        """INSERT INTO leases (fence, principal, operation, project_id, env, domain, user_ids, acquired_at, expires_at,
                               ttl_seconds, hold_until, ended_at, ended_by)
           SELECT nextval('fence'), 'p', 'acquire_lease', $1, 'stage', 'regular', ARRAY[gen_random_uuid()], now(),
                  now(), 900, now(), now(), 'released' FROM generate_series(1, 20000)""",
        pool.project_id,
    )
    await farm.sql.execute("ANALYZE leases")
    statement = str(change_queries.LOOK).replace(":grants_after", "$1").replace(":deeds_after", "$2")
    await farm.sql.execute(f"PREPARE look (bigint, bigint) AS {statement}")
    await farm.sql.execute("SET plan_cache_mode = force_generic_plan")
    plan = [row[0] for row in await farm.sql.fetch("EXPLAIN EXECUTE look (1, 1)")]
    assert not [line for line in plan if "Seq Scan on leases" in line or "Seq Scan on users" in line], plan
