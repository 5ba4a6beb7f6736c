"""The database's clock is stepped: no user is granted while a holder may use it, and no user is lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import REGISTRY

from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import Lease
from botfarm.domain.pools import Pool
from botfarm.errors import LeaseLapsedError, PoolExhaustedError, UserBusyError
from botfarm.services.upkeep import maintenance
from support.app import api_client
from support.farm import OTHER_RUNNER, RUNNER, Farm, open_farm, test_settings
from support.rollups import hours_ago, roll_up, rollups

HOUR = 3_600.0


class Clock:
    """Of a database whose statements find a clock of ours before PostgreSQL's own."""

    def __init__(self, url: str, sql: asyncpg.Connection) -> None:
        self.url = url
        self._sql = sql

    async def step(self, seconds: float) -> None:
        await self._sql.execute("UPDATE stepped.clock SET ahead = ahead + make_interval(secs => $1)", seconds)


@pytest.fixture
async def clock(database_url: str) -> AsyncIterator[Clock]:
    sql = await asyncpg.connect(database_url)
    name = database_url.rpartition("/")[2]
    try:
        await sql.execute(
            f"""CREATE SCHEMA stepped;
                CREATE TABLE stepped.clock AS SELECT interval '0' AS ahead;
                CREATE FUNCTION stepped.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM stepped.clock';
                GRANT USAGE ON SCHEMA stepped TO PUBLIC;
                GRANT SELECT ON stepped.clock TO PUBLIC;
                ALTER DATABASE "{name}" SET search_path = stepped, pg_catalog, public"""
        )
        yield Clock(database_url, sql)
    finally:
        await sql.close()


@pytest.fixture
async def farm(clock: Clock) -> AsyncIterator[Farm]:
    """With its clock read once."""
    async with open_farm(clock.url) as opened:
        await opened.services.maintenance.follow_clock()
        yield opened


@pytest.fixture
async def other(clock: Clock) -> AsyncIterator[Farm]:
    """A second replica, which has read the clock too."""
    async with open_farm(clock.url) as opened:
        await opened.services.maintenance.follow_clock()
        yield opened


def stepped(direction: str) -> float:
    return REGISTRY.get_sample_value("botfarm_db_clock_step_seconds_total", {"direction": direction}) or 0.0


async def is_refused(farm: Farm, pool: Pool, lease: Lease) -> bool:
    """By both acquires."""
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool, OTHER_RUNNER)
    with pytest.raises(UserBusyError) as caught:
        await farm.lock(lease.users[0].id, OTHER_RUNNER)
    return float(str(caught.value.details["expires_in"])) >= 0


async def until_free(farm: Farm, pool: Pool) -> Lease:
    async with asyncio.timeout(60):
        while True:
            try:
                return await farm.acquire(pool, OTHER_RUNNER)
            except PoolExhaustedError:
                await asyncio.sleep(0.05)


async def test_a_step_forward_grants_no_user_that_a_holder_may_still_use(
    farm: Farm, other: Farm, clock: Clock
) -> None:
    pool = await farm.pool(1, lock_delay=15)
    lease = await farm.acquire(pool, ttl_seconds=900)
    before = stepped("forward")
    await clock.step(HOUR)
    assert await is_refused(farm, pool, lease), "before the step was noticed"
    await farm.services.maintenance.follow_clock()
    assert stepped("forward") - before == pytest.approx(HOUR, abs=5)
    for each in (farm, other):  # one of them has not noticed yet
        assert await is_refused(each, pool, lease)
    rest = await farm.sql.fetchval(
        "SELECT extract(epoch FROM available_at - clock_timestamp())::float8 FROM users"
    )
    assert 860 < rest <= 915, "until the lease would have ended, and then the lock-delay"
    await other.services.maintenance.follow_clock()
    assert await is_refused(other, pool, lease)
    with pytest.raises(LeaseLapsedError):
        await farm.services.leases.renew(RUNNER, lease.id, ttl_seconds=None)
    ended = await farm.services.leases.get(RUNNER, lease.id)
    assert ended.ended_by == "expired"


async def test_no_worker_reaps_for_the_step_alone(farm: Farm, other: Farm, clock: Clock) -> None:
    """A worker follows the clock before it reaps; else the users of the leases that it closes would rest."""
    pool = await farm.pool(1, lock_delay=0)
    lease = await farm.acquire(pool, ttl_seconds=900)
    await clock.step(HOUR)
    await other.services.maintenance.reap()
    await farm.services.maintenance.follow_clock()
    assert await is_refused(farm, pool, lease)
    assert await is_refused(other, pool, lease)


async def test_after_a_step_forward_every_user_comes_back_by_itself(farm: Farm, clock: Clock) -> None:
    """With every worker dead."""
    pool = await farm.pool(2, lock_delay=0)
    held, kept = await farm.acquire(pool, ttl_seconds=2), await farm.acquire(pool, ttl_seconds=7_200)
    await clock.step(HOUR)
    await farm.services.maintenance.follow_clock()
    again = await until_free(farm, pool)
    assert again.users[0].id == held.users[0].id
    renewed = await farm.services.leases.renew(RUNNER, kept.id, ttl_seconds=None)
    assert renewed.ended_at is None, "it was longer than the step"
    await farm.services.leases.release(OTHER_RUNNER, again.id)
    assert (await farm.acquire(pool)).users[0].id == held.users[0].id, "a released user is free at once"


async def test_a_lease_that_is_locked_is_left_to_the_next_reading_of_the_clock(
    farm: Farm, clock: Clock
) -> None:
    pool = await farm.pool(1, lock_delay=0)
    lease = await farm.acquire(pool, ttl_seconds=900)
    await clock.step(HOUR)
    async with farm.database.transaction() as session:
        await (await session.connection()).exec_driver_sql("SELECT FROM leases FOR UPDATE")
        await farm.services.maintenance.follow_clock()
        with pytest.raises(PoolExhaustedError):
            await farm.acquire(pool, OTHER_RUNNER)
    await farm.services.maintenance.follow_clock()
    assert await is_refused(farm, pool, lease)
    assert await farm.sql.fetchval("SELECT available_at > clock_timestamp() FROM users")


async def test_a_step_backward_is_reported_and_the_runbook_ends_the_rests_that_it_made_longer(
    farm: Farm, clock: Clock
) -> None:
    pool = await farm.pool(1, cooldown=0, lock_delay=0)
    before = stepped("backward")
    await clock.step(-HOUR)
    await farm.services.maintenance.follow_clock()
    assert stepped("backward") - before == pytest.approx(HOUR, abs=5)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    section = (
        (Path(__file__).parents[2] / "docs/runbook.md")
        .read_text()
        .partition("## BotfarmDatabaseClockStepped")[2]
    )
    await farm.sql.execute(section.partition("```sql")[2].partition("```")[0])
    for _ in range(2):
        lease = await farm.acquire(pool)
        await farm.services.leases.release(RUNNER, lease.id)


async def test_a_clock_that_only_goes_on_was_not_stepped(farm: Farm) -> None:
    before = stepped("forward"), stepped("backward")
    for _ in range(20):
        await farm.services.maintenance.follow_clock()
    assert (stepped("forward"), stepped("backward")) == before


async def test_an_api_process_notices_a_step_by_itself(
    clock: Clock, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "CLOCK_INTERVAL", 0.05)
    async with api_client(test_settings(database_url)) as api:
        metric = 'botfarm_db_clock_step_seconds_total{direction="forward"}'
        assert metric in (await api.get("http://farm.test/metrics")).text
        async with asyncio.timeout(60):
            before = stepped("forward")
            while stepped("forward") - before < HOUR - 5:
                await clock.step(HOUR)
                await asyncio.sleep(0.2)
        assert "the database's clock was stepped" in caplog.text


async def test_hours_that_a_step_back_repeats_count_all_leases_once(farm: Farm, clock: Clock) -> None:
    pool = await farm.pool(1)
    begun = await hours_ago(farm, 0)
    for _ in range(3):  # two hours pass and are closed, each with a lease
        await farm.services.leases.release(OTHER_RUNNER, (await until_free(farm, pool)).id)
        await roll_up(farm)
        await clock.step(HOUR)
        await farm.services.maintenance.follow_clock()
    assert sum(row["granted"] for row in (await rollups(farm, pool)).values()) == 3
    await clock.step(-3 * HOUR)
    await farm.services.maintenance.follow_clock()
    await farm.user(pool)  # the other one rests until the hour of its release comes again
    await farm.services.leases.release(OTHER_RUNNER, (await until_free(farm, pool)).id)
    await roll_up(farm)
    rows = await rollups(farm, pool)
    assert [rows[begun + timedelta(hours=hour)]["granted"] for hour in range(3)] == [2, 1, 1]
    for _ in range(4):  # and once more, until the clock is where it was
        await clock.step(HOUR)
        await roll_up(farm)
    assert sum(row["granted"] for row in (await rollups(farm, pool)).values()) == 4
    assert sum(json.loads(row["ends"]).get("ok", 0) for row in (await rollups(farm, pool)).values()) == 4


async def test_a_step_forward_leaves_out_the_users_in_service_whom_nobody_counted(
    farm: Farm, clock: Clock
) -> None:
    pool = await farm.pool(1)
    await roll_up(farm)
    await clock.step(60)
    await roll_up(farm)
    seconds = "SELECT sum(in_service_seconds) FROM rollups"
    counted = await farm.sql.fetchval(seconds)
    assert 60 <= counted < 75
    await clock.step(30 * HOUR)
    await roll_up(farm)
    assert await farm.sql.fetchval(seconds) == counted
    await clock.step(-30 * HOUR)
    await clock.step(60)
    await roll_up(farm)
    assert 120 <= await farm.sql.fetchval(seconds) < 150
    assert list(await farm.services.pool_stats.recent_waits(EVERYTHING)) == [pool]
