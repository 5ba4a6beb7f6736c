"""The statistics: of pools by the hour and the day, of users and of holders."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from botfarm.domain.access import EVERYTHING, Scope
from botfarm.domain.leases import Outcome, Reason, Verdict
from botfarm.domain.pools import Pool
from botfarm.domain.usage import HolderKind, PoolStatsFilter, UserOrder
from botfarm.services.usage import lease_stats, pool_stats
from support.app import api_client
from support.farm import MANAGER, RUNNER, Farm, test_settings
from support.http import assert_problem
from support.rollups import forge_lease, forge_refusals, hours_ago, roll_up

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
ANY = PoolStatsFilter()


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Of the same database as the farm."""
    async with api_client(test_settings(database_url)) as client:
        yield client


async def stats(api: httpx.AsyncClient, of: str = "pools", **query: Any) -> list[dict[str, Any]]:
    answer = await api.get(f"/stats/{of}", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def test_a_pool_has_its_requests_waits_demand_and_outcomes_step_by_step(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(2)
    hour = await hours_ago(farm, 3)
    for _ in range(98):
        await forge_lease(farm, pool, hour + 20 * MINUTE, hour + 21 * MINUTE, waited=0.05)
    await forge_lease(farm, pool, hour + 30 * MINUTE, hour + HOUR + MINUTE, waited=25, outcome="dirty")
    await forge_lease(
        farm, pool, hour + 30 * MINUTE, hour + 40 * MINUTE, waited=80, outcome="broken", reason="captcha"
    )
    await forge_refusals(farm, pool, hour, "exhausted", 3)
    await forge_refusals(farm, pool, hour, "timeout", 2, waited=50)
    await roll_up(farm)
    (found,) = await stats(api, since=written(hour), until=written(hour + 2 * HOUR))
    assert (found["project_id"], found["env"], found["domain"]) == (str(pool.project_id), "stage", "regular")
    first, second = found["steps"]
    assert first["at"] == written(hour)
    assert (first["requests"], first["granted"], first["refused"]) == (105, 100, 5)
    assert first["refusals"] == {"exhausted": 3, "timeout": 2, "gone": 0, "quota": 0}
    assert first["wait"]["p50"] < 0.1
    assert 20 <= first["wait"]["p99"] <= 30
    assert first["wait"]["max"] == 80
    assert first["peak_demand"] == 98
    assert first["busy_seconds"] == 98 * 60 + 1_800 + 600
    assert (first["outcomes"]["ok"], first["outcomes"]["broken"], first["reasons"]) == (98, 1, {"captcha": 1})
    assert (second["requests"], second["busy_seconds"], second["outcomes"]["dirty"]) == (0, 60, 1)
    assert found["total"]["requests"] == 105
    assert found["total"]["outcomes"]["dirty"] == 1
    assert found["total"]["wait"] == first["wait"]


async def test_a_window_without_data_has_empty_steps(farm: Farm, api: httpx.AsyncClient) -> None:
    await farm.pool(1)
    (found,) = await stats(api, since="2020-01-01T00:00:00Z", until="2020-01-01T03:00:00Z")
    assert [step["at"] for step in found["steps"]] == [f"2020-01-01T0{hour}:00:00Z" for hour in range(3)]
    for figures in (*found["steps"], found["total"]):
        assert figures["requests"] == figures["peak_demand"] == figures["busy_seconds"] == 0
        assert figures["wait"] == {"p50": None, "p95": None, "p99": None, "max": None}
        assert figures["utilisation"] is None


async def test_days_add_up_their_hours(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    today = (await hours_ago(farm, 0)).replace(hour=0)
    for hours in (1, 5, 30):
        began = today - hours * HOUR
        await forge_lease(farm, pool, began, began + MINUTE, waited=hours)
    await roll_up(farm)
    (found,) = await stats(api, step="day", since=written(today - 48 * HOUR), until=written(today))
    assert [(step["granted"], step["wait"]["max"]) for step in found["steps"]] == [(1, 30), (2, 5)]


async def test_the_hour_under_way_is_included(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    await farm.acquire(pool)
    await roll_up(farm)
    (found,) = await stats(api)
    assert len(found["steps"]) in {24, 25}  # 24 hours touch the beginning of one more
    assert found["total"]["granted"] == 1


async def test_utilisation_is_what_was_busy_while_users_in_service_were_counted(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(2)
    hour = await hours_ago(farm, 3)
    await forge_lease(farm, pool, hour, hour + HOUR)
    await roll_up(farm)
    (found,) = await stats(api, since=written(hour), until=written(hour + HOUR))
    assert found["total"]["utilisation"] is None
    # For half of the hour a worker has seen two users.
    await farm.sql.execute("UPDATE rollups SET in_service_seconds = 2 * 1800 WHERE hour = $1", hour)
    await farm.sql.execute(
        """INSERT INTO rollup_hours (hour, observed_until, observed_seconds)
           VALUES ($1::timestamptz, $1 + interval '30 min', 1800)
           ON CONFLICT (hour) DO UPDATE SET observed_until = excluded.observed_until, observed_seconds = 1800""",
        hour,
    )
    (found,) = await stats(api, since=written(hour), until=written(hour + HOUR))
    assert found["total"]["utilisation"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("of", "query", "field", "code"),
    [
        ("pools", {"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "since", "invalid"),
        ("pools", {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "since", "invalid"),
        ("pools", {"since": "9998-01-01T00:00:00Z"}, "since", "invalid"),
        ("pools", {"since": "2020-01-01T00:00:00Z"}, "since", "too_long"),
        ("pools", {"until": "0001-01-01T00:00:00Z"}, "until", "invalid"),
        ("pools", {"until": "9999-12-31T23:59:59Z", "step": "day"}, "until", "invalid"),
        ("pools", {"step": "week"}, "step", "enum"),
        ("pools", {"since": "yesterday"}, "since", "datetime_from_date_parsing"),
        ("users", {"since": "9998-01-01T00:00:00Z"}, "since", "invalid"),
        ("users", {"sort": "beauty"}, "sort", "enum"),
        ("holders", {"since": "9998-01-01T00:00:00Z"}, "since", "invalid"),
        ("holders", {"by": "colour"}, "by", "enum"),
    ],
)
async def test_bad_windows_are_refused_by_their_field(
    farm: Farm, api: httpx.AsyncClient, of: str, query: dict[str, str], field: str, code: str
) -> None:
    await farm.pool(1)
    problem = assert_problem(await api.get(f"/stats/{of}", params=query), 422, "invalid-request")
    assert [(each["field"], each["code"]) for each in problem["errors"]] == [(field, code)]


async def test_an_answer_of_too_many_steps_is_refused(
    farm: Farm, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await farm.pool(1)
    monkeypatch.setattr(pool_stats, "MAX_ALL_STEPS", 70)
    window = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}
    problem = assert_problem(await api.get("/stats/pools", params=window), 422, "invalid-request")
    assert "3 pools have 24 steps each" in problem["errors"][0]["message"]
    assert len(await stats(api, **window, step="day")) == 3


async def test_statistics_show_only_what_is_in_scope(farm: Farm) -> None:
    pool, other = await farm.pool(1), await farm.pool(1)
    for each in (pool, other):
        await farm.release(await farm.acquire(each))
    await roll_up(farm)
    ours = Scope(frozenset({pool.project_id}), frozenset({"stage"}))
    nothing = Scope(frozenset({pool.project_id}), frozenset({"prod"}))
    service, leases = farm.services.pool_stats, farm.services.lease_stats
    window = {"since": None, "until": None, "step": pool_stats.Step.HOUR}
    reading = {"since": None, "order": UserOrder.USES, "limit": 10}
    holding = {"kind": HolderKind.PRINCIPAL, "project_id": None, "since": None, "limit": 10}
    assert [each.pool for each in await service.list(ours, ANY, **window)] == [pool]
    assert list(await service.recent_waits(ours)) == [pool]
    assert [each.pool for each in await leases.users(ours, ANY, **reading)] == [pool]
    assert [each.leases for each in await leases.holders(ours, **holding)] == [1]
    assert [each.leases for each in await leases.holders(EVERYTHING, **holding)] == [2]
    assert await service.list(nothing, ANY, **window) == []
    assert await service.recent_waits(nothing) == {}
    assert await leases.users(nothing, ANY, **reading) == []
    assert await leases.holders(nothing, **holding) == []


async def users_of(pool: Pool, farm: Farm) -> list[UUID]:
    rows = await farm.sql.fetch("SELECT id FROM users WHERE project_id = $1 ORDER BY id", pool.project_id)
    return [row["id"] for row in rows]


async def test_users_are_listed_by_failures_uses_busy_time_or_idleness(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(4)
    often, long, failing, never = await users_of(pool, farm)
    start = await hours_ago(farm, 30)
    for minute in range(5):
        await forge_lease(farm, pool, start + minute * MINUTE, start + minute * MINUTE, users=[often])
    await forge_lease(farm, pool, start + HOUR, start + 5 * HOUR, users=[long])
    for hours, reason in ((2, "captcha"), (3, "rate_limited"), (4, "locked_out"), (5, "environment")):
        began = start + hours * HOUR
        await forge_lease(farm, pool, began, began + MINUTE, users=[failing], outcome="broken", reason=reason)
    await forge_lease(farm, pool, start, start + MINUTE, users=[never], purpose="chore")
    await roll_up(farm)
    for sort, first in (("failures", failing), ("uses", often), ("busy", long), ("idle", never)):
        assert (await stats(api, "users", sort=sort, limit=1))[0]["id"] == str(first), sort
    by_id = {each["id"]: each for each in await stats(api, "users")}
    assert (
        by_id[str(failing)] | {"uses": 4, "failures": 2, "last_reason": "locked_out"} == by_id[str(failing)]
    )
    assert by_id[str(long)]["busy_seconds"] == 4 * 3_600
    assert by_id[str(never)]["last_used"] is None
    assert by_id[str(often)]["last_used"] == written(start + 4 * MINUTE)
    recent = await stats(api, "users", sort="idle", since=written(start + 3 * HOUR))
    assert [each["uses"] for each in recent if each["id"] == str(long)] == [0]
    assert [each["last_used"] for each in recent if each["id"] == str(long)] == [written(start + HOUR)]
    assert recent[0]["id"] == str(never)


async def test_what_a_release_says_of_one_user_counts_for_it_alone(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(2)
    lease = await farm.acquire(pool, count=2)
    blamed = lease.users[0].id
    await farm.services.leases.release(
        RUNNER, lease.id, Verdict(), {blamed: Verdict(Outcome.BROKEN, Reason.DATA)}
    )
    found = {each["id"]: each["failures"] for each in await stats(api, "users")}
    assert found == {str(blamed): 1, str(lease.users[1].id): 0}


async def test_the_time_in_quarantine_is_between_a_quarantine_and_what_ends_it(
    farm: Farm, api: httpx.AsyncClient
) -> None:
    pool = await farm.pool(1)
    (user,) = await users_of(pool, farm)
    await farm.services.user_statuses.quarantine(MANAGER, user, reason="why", until=None)
    await farm.services.user_statuses.restore(MANAGER, user, note=None, clean=None)
    await farm.services.user_statuses.quarantine(MANAGER, user, reason="why", until=None)
    (found,) = await stats(api, "users")
    assert 0 < found["quarantined_seconds"] < 60


async def test_holders_are_listed_by_their_hours(farm: Farm, api: httpx.AsyncClient) -> None:
    pool = await farm.pool(1)
    start = await hours_ago(farm, 30)
    run = '{{"pipeline": "shop", "job": "e2e", "run": "{}"}}'.format
    ids = await users_of(pool, farm)
    await forge_lease(farm, pool, start, start + HOUR, users=[*ids, pool.project_id], owner="me")
    for number in range(2):
        await forge_lease(
            farm, pool, start, start + 3 * HOUR, principal="ci", metadata=run(number), ended_by="expired"
        )
    await forge_lease(farm, pool, start, start + 9 * HOUR, purpose="chore", principal="keeper")
    await roll_up(farm)
    assert await stats(api, "holders") == [
        {"holder": "ci", "account_hours": 6.0, "leases": 2, "expired_leases": 2},
        {"holder": "somebody", "account_hours": 2.0, "leases": 1, "expired_leases": 0},
    ]
    assert [each["holder"] for each in await stats(api, "holders", by="owner")] == [None, "me"]
    assert [each["holder"] for each in await stats(api, "holders", by="job")] == ["shop e2e", None]
    assert await stats(api, "holders", since=written(start + MINUTE)) == []


async def test_too_many_leases_are_refused_with_a_reason(
    farm: Farm, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = await farm.pool(1)
    for _ in range(3):
        await forge_lease(farm, pool, await hours_ago(farm, 2), await hours_ago(farm, 1))
    await roll_up(farm)
    monkeypatch.setattr(lease_stats, "MAX_LEASES", 2)
    for of in ("users", "holders"):
        problem = assert_problem(await api.get(f"/stats/{of}"), 422, "invalid-request")
        assert problem["errors"][0]["field"] == "since"
