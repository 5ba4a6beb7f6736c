"""After a restore, leases from after the backup are unknown, so no user is leased until they are over."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from botfarm.domain.leases import EndedBy
from botfarm.errors import LeaseLapsedError, OperatorError, PoolExhaustedError
from botfarm.runtime.services import open_services
from botfarm.services.upkeep.after_restore import Restored
from support.farm import RUNNER, Farm, test_settings

AfterRestore = Callable[..., Awaitable[Restored]]
STATES = """
    SELECT count(*) FILTER (WHERE locktime IS NOT NULL) AS locked, count(*) AS users,
           extract(epoch FROM min(available_at) - clock_timestamp())::float8 AS rest FROM users"""


@pytest.fixture
def after_restore(database_url: str) -> AfterRestore:
    """As the owner of the tables."""

    async def run(rest_seconds: int | None = None) -> Restored:
        async with open_services(test_settings(database_url).as_owner(), "after-restore") as services:
            return await services.after_restore.run(rest_seconds=rest_seconds)

    return run


async def test_all_leases_end_and_all_users_rest_for_the_longest_lease(
    farm: Farm, after_restore: AfterRestore
) -> None:
    pool = await farm.pool(2, default_ttl=60, max_ttl=3_000, lock_delay=600, cooldown=10)
    lease = await farm.acquire(pool)
    done = await after_restore()
    assert (done.ended_leases, done.rest.users) == (1, 2)
    row = await farm.sql.fetchrow(STATES)
    assert (row["locked"], row["users"]) == (0, 2)
    assert 3_590 < row["rest"] <= 3_600
    with pytest.raises(LeaseLapsedError):
        await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=None)
    closed = await farm.services.leases.get(RUNNER, lease.id)
    assert (closed.ended_by, closed.note) == (EndedBy.FORCED, "the database was restored")
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    assert await farm.sql.fetchval("SELECT principal FROM audit WHERE action = 'after_restore'")


async def test_a_cooldown_that_is_longer_counts(farm: Farm, after_restore: AfterRestore) -> None:
    await farm.pool(1, default_ttl=60, max_ttl=60, cooldown=86_400)
    await after_restore()
    assert 86_390 < (await farm.sql.fetchrow(STATES))["rest"] <= 86_400


async def test_when_no_test_run_is_left_users_need_no_rest(farm: Farm, after_restore: AfterRestore) -> None:
    pool = await farm.pool(1, cooldown=3_600)
    before = await farm.acquire(pool)
    done = await after_restore(rest_seconds=0)
    after = await farm.acquire(pool)
    assert after.users[0].id == before.users[0].id
    assert after.fence > done.fence > before.fence


async def test_a_backup_may_be_restored_twice(farm: Farm, after_restore: AfterRestore) -> None:
    """A fence raised by a fixed number could be given again."""
    pool = await farm.pool(1)
    fences: list[int] = []
    for _ in range(2):
        await farm.sql.execute("SELECT setval('fence', 7)")  # the state of the backup
        await after_restore(rest_seconds=0)
        fences.append((await farm.acquire(pool)).fence)
    assert fences[0] < fences[1] < 2**53


async def test_a_lease_that_has_expired_is_left_to_the_reaper(
    farm: Farm, after_restore: AfterRestore
) -> None:
    lease = await farm.acquire(await farm.pool(1))
    await farm.expire(lease.id)
    assert (await after_restore()).ended_leases == 0
    assert await farm.services.maintenance.reap() == 1
    assert (await farm.services.leases.get(RUNNER, lease.id)).ended_by is EndedBy.EXPIRED
    assert (await farm.sql.fetchrow(STATES))["rest"] > 0


@pytest.mark.parametrize("process", ["api", "worker"])
async def test_a_farm_at_work_is_left_alone(
    farm: Farm, database_url: str, after_restore: AfterRestore, process: str
) -> None:
    lease = await farm.acquire(await farm.pool(1))
    async with open_services(test_settings(database_url), process) as services:
        await services.readiness.look()
        with pytest.raises(OperatorError, match="stop them"):
            await after_restore()
    assert (await farm.services.leases.get(RUNNER, lease.id)).is_live


async def test_after_restore_works_on_a_farm_without_users(after_restore: AfterRestore) -> None:
    done = await after_restore()
    assert (done.rest.users, done.rest.until) == (0, None)


async def test_a_hand_out_under_way_is_waited_for(farm: Farm, after_restore: AfterRestore) -> None:
    """It would be seen by none of the statements, and its user be handed out again."""
    await farm.pool(1)
    async with farm.database.transaction() as session:
        await session.execute(text("LOCK TABLE leases IN ROW EXCLUSIVE MODE"))  # as whoever inserts one
        running = asyncio.create_task(after_restore(rest_seconds=0))
        await farm.until_blocked()
    assert (await running).ended_leases == 0
