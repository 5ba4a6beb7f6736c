"""Rollups by the hour: exact whatever ends late, crashes, or is done twice."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import Outcome, Reason, Verdict
from botfarm.domain.pools import Pool
from botfarm.errors import DatabaseUnavailableError
from botfarm.services.usage import rolling_up
from support.farm import RUNNER, Farm
from support.rollups import forge_lease, forge_refusals, hours_ago, roll_up, rollups

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def counted(rollup: Mapping[str, Any]) -> dict[str, Any]:
    """What is not zero, without the histogram."""
    found = {name: value for name, value in rollup.items() if value and name not in {"hour", "waits"}}
    return found | {"ends": json.loads(rollup["ends"])} if rollup["ends"] != "{}" else _without_ends(found)


def _without_ends(rollup: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in rollup.items() if name != "ends"}


async def test_a_lease_counts_in_the_hours_of_its_grant_of_its_end_and_of_its_use(farm: Farm) -> None:
    pool = await farm.pool(1)
    nine = await hours_ago(farm, 5)
    await forge_lease(farm, pool, nine + 45 * MINUTE, nine + 2 * HOUR + 10 * MINUTE, waited=7)
    await roll_up(farm)
    found = await rollups(farm, pool)
    assert counted(found[nine]) == {
        "granted": 1,
        "longest_wait": 7,
        "busy_seconds": 900,
        "peak_demand": 1,
    }
    assert counted(found[nine + HOUR]) == {"busy_seconds": 3_600, "peak_demand": 1}
    assert counted(found[nine + 2 * HOUR]) == {"busy_seconds": 600, "peak_demand": 1, "ends": {"ok": 1}}
    assert sum(found[nine]["waits"]) == 1


async def test_requests_are_counted_by_their_result(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 3)
    for minute, (result, requests) in enumerate(
        {"exhausted": 4, "timeout": 3, "gone": 2, "quota": 1}.items()
    ):
        await forge_refusals(farm, pool, hour + minute * MINUTE, result, requests)
    await forge_refusals(farm, pool, hour + 30 * MINUTE, "exhausted", 10)
    await forge_lease(farm, pool, hour, hour + MINUTE)
    await roll_up(farm)
    found = (await rollups(farm, pool))[hour]
    assert [found[name] for name in ("granted", "exhausted", "timeout", "gone", "quota")] == [1, 14, 3, 2, 1]


async def test_only_tests_are_counted(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 3)
    for purpose in ("chore", "hold"):
        await forge_lease(farm, pool, hour, hour + MINUTE, purpose=purpose)
    await roll_up(farm)
    assert hour not in await rollups(farm, pool)


async def test_the_peak_of_demand_has_the_users_that_were_held_and_those_that_were_waited_for(
    farm: Farm,
) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 4)
    await forge_lease(farm, pool, hour + 10 * MINUTE, hour + 20 * MINUTE)
    await forge_lease(farm, pool, hour + 20 * MINUTE, hour + 30 * MINUTE, waited=300)
    await forge_lease(farm, pool, hour + 30 * MINUTE, hour + 40 * MINUTE)
    await forge_refusals(farm, pool, hour + 18 * MINUTE, "timeout", 3, waited=50, count=2)
    await roll_up(farm)
    assert (await rollups(farm, pool))[hour]["peak_demand"] == 1 + 1 + 3 * 2


async def test_ends_are_counted_by_what_was_said_of_each_user(farm: Farm) -> None:
    pool = await farm.pool(3)
    lease = await farm.acquire(pool, count=3)
    first = lease.users[0].id
    broken = Verdict(Outcome.BROKEN, Reason.CAPTCHA)
    await farm.services.leases.release(RUNNER, lease.id, Verdict(), {first: broken})
    await roll_up(farm)
    (found,) = (await rollups(farm, pool)).values()
    assert json.loads(found["ends"]) == {"ok": 2, "broken:captcha": 1}
    assert (found["granted"], found["peak_demand"]) == (1, 3)


async def test_expired_forced_and_unused_leases_end_as_such(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 3)
    await forge_lease(farm, pool, hour, hour + MINUTE, ended_by="expired")
    await forge_lease(farm, pool, hour, hour + MINUTE, ended_by="forced")
    await forge_lease(farm, pool, hour, hour + MINUTE, outcome=None)
    await forge_lease(farm, pool, hour, hour + MINUTE, outcome="dirty")
    await roll_up(farm)
    assert json.loads((await rollups(farm, pool))[hour]["ends"]) == {
        "expired": 1,
        "forced": 1,
        "unused": 1,
        "dirty": 1,
    }


async def test_an_expired_lease_that_nobody_has_reaped_has_ended_at_its_expiry(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 20)
    await forge_lease(farm, pool, hour)
    await roll_up(farm)
    found = await rollups(farm, pool)
    assert [row["busy_seconds"] for row in found.values() if row["busy_seconds"]] == [3_600] * 10
    assert counted(found[hour + 10 * HOUR]) == {"ends": {"expired": 1}}


async def test_rolling_up_again_changes_nothing(farm: Farm) -> None:
    pool = await farm.pool(2)
    hour = await hours_ago(farm, 2)
    await forge_lease(farm, pool, hour + 50 * MINUTE, hour + HOUR + MINUTE, waited=2)
    await forge_refusals(farm, pool, hour, "timeout", 2, waited=10)
    await roll_up(farm)
    before = await rollups(farm, pool)
    versions = await farm.sql.fetch("SELECT xmin::text FROM rollups WHERE hour = $1", hour)
    await roll_up(farm)
    assert await rollups(farm, pool) == before
    assert await farm.sql.fetch("SELECT xmin::text FROM rollups WHERE hour = $1", hour) == versions


async def test_a_lease_that_ends_after_its_hour_was_closed_is_busy_in_each_hour_and_ends_once(
    farm: Farm,
) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool, ttl_seconds=7_200)
    await forge_lease(farm, pool, lease.acquired_at, lease.acquired_at)  # the carried lease is not alone
    for _ in range(3):  # the hours pass, each with its rollups, while the lease is live
        await roll_up(farm)
        await pass_hours(farm, 1)
    await roll_up(farm)
    assert await closed_hours(farm) >= 2
    await farm.sql.execute(
        """UPDATE leases SET ended_at = acquired_at + interval '3 hours', ended_by = 'released', outcome = 'ok'
           WHERE id = $1""",
        lease.id,
    )
    await roll_up(farm)
    rows = (await rollups(farm, pool)).values()
    assert sum(row["busy_seconds"] for row in rows) == pytest.approx(3 * 3_600)
    assert max(row["busy_seconds"] for row in rows) == pytest.approx(3_600)
    assert sum(json.loads(row["ends"]).get("ok", 0) for row in rows) == 2
    assert sum(row["granted"] for row in rows) == 2


async def pass_hours(farm: Farm, hours: int) -> None:
    """Moves leases and rollups into the past. A lease lives on: its end does not move."""
    await farm.sql.execute(
        """UPDATE leases SET acquired_at = acquired_at - make_interval(hours => $1),
                  requested_at = requested_at - make_interval(hours => $1),
                  ended_at = ended_at - make_interval(hours => $1)""",
        hours,
    )
    for table in ("rollups", "rollup_hours"):
        await farm.sql.execute(f"UPDATE {table} SET hour = hour - make_interval(hours => $1 + 1000)", hours)
        await farm.sql.execute(f"UPDATE {table} SET hour = hour + interval '1000 hours'")


async def closed_hours(farm: Farm) -> int:
    hours: int = await farm.sql.fetchval("SELECT count(*) FROM rollup_hours WHERE carried IS NOT NULL")
    return hours


async def test_a_long_history_is_rolled_up_in_batches_and_gives_the_same_as_at_once(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await farm.pool(1)
    start = await hours_ago(farm, 60)
    for number in range(50):
        began = start + number * HOUR + 50 * MINUTE
        await forge_lease(farm, pool, began, began + 95 * MINUTE, waited=number)
        await forge_refusals(farm, pool, began, "timeout", 1, waited=20)
    assert await roll_up(farm) == 2  # all of the past, and the present
    at_once = await rollups(farm, pool)
    await farm.sql.execute("TRUNCATE rollups, rollup_hours")
    monkeypatch.setattr(rolling_up, "BATCH", 3)
    assert await roll_up(farm) > 10
    assert await rollups(farm, pool) == at_once
    assert sum(row["busy_seconds"] for row in at_once.values()) == pytest.approx(50 * 95 * 60)
    assert sum(row["granted"] for row in at_once.values()) == 50


async def test_a_history_that_was_begun_goes_on_where_it_stopped(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await farm.pool(1)
    start = await hours_ago(farm, 30)
    for number in range(20):
        await forge_lease(farm, pool, start + number * HOUR, start + number * HOUR + 70 * MINUTE)
    monkeypatch.setattr(rolling_up, "BATCH", 3)
    stop = asyncio.Event()
    roll_up_next = rolling_up._roll_up_next

    async def stopping(session: Any) -> bool:
        is_current = await roll_up_next(session)
        stop.set()
        return is_current

    with monkeypatch.context() as patch:
        patch.setattr(rolling_up, "_roll_up_next", stopping)
        assert await farm.services.rollups.roll_up(stop) == 1
    assert 0 < len(await rollups(farm, pool)) < 20
    await roll_up(farm)
    assert sum(row["busy_seconds"] for row in (await rollups(farm, pool)).values()) == pytest.approx(
        20 * 70 * 60
    )


async def test_a_crash_at_any_statement_leaves_what_was_there(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 2)
    await forge_lease(farm, pool, hour, hour + 70 * MINUTE)

    async def crash(session: AsyncSession, *_: Any, **__: Any) -> None:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await farm.sql.execute("SELECT pg_terminate_backend($1)", pid)
        await session.execute(text("SELECT 1"))

    for statement in ("roll_up", "last_observed", "observe"):
        with monkeypatch.context() as patch:
            patch.setattr(rolling_up.rollup_queries, statement, crash)
            with pytest.raises(DatabaseUnavailableError):
                await roll_up(farm)
        assert await rollups(farm, pool) == {}
        assert await farm.sql.fetchval("SELECT count(*) FROM rollup_hours") == 0
    await roll_up(farm)
    rows = (await rollups(farm, pool)).values()
    assert sum(row["busy_seconds"] for row in rows) == 70 * 60


async def test_a_second_worker_leaves_the_rollups_to_the_first(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 3)
    await forge_lease(farm, pool, hour, hour + MINUTE)
    async with farm.database.transaction() as first:
        assert await rolling_up.rollup_queries.try_lock(first)
        assert await roll_up(farm) == 0
        assert await rollups(farm, pool) == {}
    assert await asyncio.gather(*(roll_up(farm) for _ in range(3)))
    assert (await rollups(farm, pool))[hour]["granted"] == 1


async def test_no_lease_is_pruned_before_it_is_rolled_up(farm: Farm) -> None:
    pool = await farm.pool(1)
    hour = await hours_ago(farm, 399 * 24)
    await forge_lease(farm, pool, hour, hour + MINUTE)
    await forge_refusals(farm, pool, hour, "exhausted", 3)
    maintenance, stop = farm.services.maintenance, asyncio.Event()
    assert (await maintenance.prune_history(stop), await maintenance.prune_refusals(stop)) == (0, 0)
    await roll_up(farm)
    before = await rollups(farm, pool)
    assert (await maintenance.prune_history(stop), await maintenance.prune_refusals(stop)) == (1, 1)
    await roll_up(farm)
    assert await rollups(farm, pool) == before
    assert (before[hour]["granted"], before[hour]["exhausted"]) == (1, 3)


async def test_rollups_are_deleted_after_400_days(farm: Farm) -> None:
    pool = await farm.pool(0)
    for days in (399, 401):
        await farm.sql.execute(
            "INSERT INTO rollups (hour, project_id, env, domain) VALUES ($1, $2, $3, $4)",
            await hours_ago(farm, days * 24),
            pool.project_id,
            pool.env,
            pool.domain,
        )
    assert await farm.services.rollups.prune() == 1
    assert list(await rollups(farm, pool)) == [await hours_ago(farm, 399 * 24)]


async def test_a_request_that_waits_counts_in_the_demand_of_the_hour_under_way(farm: Farm) -> None:
    pool = await farm.pool(1)
    await farm.acquire(pool)
    waiting = asyncio.create_task(farm.acquire(pool, count=1, wait_seconds=50))
    async with asyncio.timeout(60):
        while not await farm.sql.fetchval("SELECT count(*) FROM tickets"):
            await asyncio.sleep(0.01)
    await roll_up(farm)
    assert max(row["peak_demand"] for row in (await rollups(farm, pool)).values()) == 2
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_the_waits_of_the_last_day_are_there_hour_by_hour(farm: Farm) -> None:
    pool, other = await farm.pool(1), await farm.pool(1)
    for hours, waited in ((23, 100), (24, 1), (2, 20)):
        began = await hours_ago(farm, hours)
        await forge_lease(farm, pool, began, began + MINUTE, waited=waited)
    await roll_up(farm)
    waits = await farm.services.pool_stats.recent_waits(EVERYTHING)
    assert waits[pool] == [100.0, *[None] * 20, 20.0, None, None]
    assert set(waits) == {pool, other}  # the other one has users, who are counted


async def in_service(farm: Farm, pool: Pool) -> tuple[float, float]:
    """Seconds of users in service, and for how many seconds they were counted."""
    row = await farm.sql.fetchrow(
        """SELECT (SELECT sum(in_service_seconds) FROM rollups WHERE project_id = $1) AS users,
                  (SELECT sum(observed_seconds) FROM rollup_hours) AS observed""",
        pool.project_id,
    )
    return row["users"], row["observed"]


async def observed_ago(farm: Farm, seconds: int) -> None:
    await farm.sql.execute(
        "UPDATE rollup_hours SET observed_until = clock_timestamp() - make_interval(secs => $1)", seconds
    )


async def test_users_in_service_are_counted_for_as_long_as_a_worker_counts_them(farm: Farm) -> None:
    pool = await farm.pool(4)
    users = [row["id"] for row in await farm.sql.fetch("SELECT id FROM users ORDER BY id")]
    await farm.sql.execute(
        "UPDATE users SET status = 'retired', status_since = now() WHERE id = $1", users[0]
    )
    await farm.sql.execute("UPDATE users SET status = 'dirty', status_since = now() WHERE id = $1", users[1])
    await farm.sql.execute(
        "UPDATE users SET status = 'quarantined', status_since = now() WHERE id = $1", users[2]
    )
    await roll_up(farm)
    assert await in_service(farm, pool) == (0, 0)
    await observed_ago(farm, 60)
    await roll_up(farm)
    counted, observed = await in_service(farm, pool)
    assert (counted, observed) == (pytest.approx(120, abs=10), pytest.approx(60, abs=5))
    await observed_ago(farm, 1_000)  # an outage: nobody knows what was in it
    await roll_up(farm)
    assert await in_service(farm, pool) == (counted, observed)


async def test_a_leased_user_that_is_quarantined_is_in_service_until_its_release(farm: Farm) -> None:
    pool = await farm.pool(1)
    lease = await farm.acquire(pool)
    await farm.sql.execute("UPDATE users SET status = 'quarantined', status_since = now()")
    await roll_up(farm)
    await observed_ago(farm, 60)
    await roll_up(farm)
    counted, _ = await in_service(farm, pool)
    assert counted == pytest.approx(60, abs=5)
    await farm.release(lease)
    await observed_ago(farm, 60)
    await roll_up(farm)
    assert (await in_service(farm, pool))[0] == counted
