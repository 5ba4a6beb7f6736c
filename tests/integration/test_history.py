"""The history of a user, and what is recorded for those who come later."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from botfarm.db.leasing.lease_reading_queries import LIST_OF_USER
from botfarm.db.leasing.lease_user_queries import fill_lease_users
from botfarm.db.postgres.driver import _with_numbers
from botfarm.db.stock.history_queries import LEASES_OF_USER
from botfarm.domain.leases import LeaseFilter, Outcome, Reason
from botfarm.domain.wanted_labels import WantedLabels
from botfarm.errors import PoolExhaustedError
from support.farm import MANAGER, RUNNER, Farm
from support.http import LEASE, create_project, create_user
from support.rollups import roll_up

EVERYBODY = MANAGER.scope


async def test_leases_and_events_stand_in_one_list_newest_first(api: httpx.AsyncClient) -> None:
    user = await create_user(api, await create_project(api))
    path = f"/users/{user['id']}"
    for number in range(2):
        lease = (await api.post("/leases", json={**LEASE, "owner": f"job {number}"})).json()
        said = {"outcome": "broken", "reason": "captcha", "note": f"run {number}"}
        await api.post(f"/leases/{lease['id']}/release", json=said)
    await api.post(f"{path}/quarantine", json={"reason": "asks for a picture"})
    await api.post(f"{path}/restore", json={"note": "solved it"})
    await api.post("/leases", json=LEASE)
    entries = (await api.get(f"{path}/history")).json()["items"]
    assert [entry["action"] for entry in entries] == [
        "acquire_lease", "restore_user", "quarantine_user", "acquire_lease", "acquire_lease", "create_user",
    ]  # fmt: skip
    assert (entries[0]["lease"]["ended_at"], entries[0]["lease"]["outcome"]) == (None, None)
    assert entries[1]["details"] == {"note": "solved it"}
    assert entries[2]["details"]["reason"] == "asks for a picture"
    latest = entries[3]["lease"]
    assert (latest["owner"], latest["outcome"], latest["reason"], latest["note"]) == (
        "job 1", "broken", "captcha", "run 1",
    )  # fmt: skip
    paged, cursor = [], None
    while True:
        page = (
            await api.get(f"{path}/history", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        ).json()
        paged += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert paged == entries


async def test_the_leases_of_one_user_are_listed_with_its_own_outcome(farm: Farm) -> None:
    pool = await farm.pool(2)
    both = await farm.release(await farm.acquire(pool, count=2), Outcome.BROKEN, Reason.DATA)
    one = await farm.acquire(pool)
    chosen = LeaseFilter(user_id=one.users[0].id)
    leases = (await farm.services.leases.list(EVERYBODY, chosen, cursor=None, limit=10)).items
    assert [lease.id for lease in leases] == [one.id, both.id]
    (other,) = {user.id for user in both.users} - {one.users[0].id}
    leases = (
        await farm.services.leases.list(EVERYBODY, LeaseFilter(user_id=other), cursor=None, limit=10)
    ).items
    assert [lease.id for lease in leases] == [both.id]


@pytest.mark.parametrize("statement", [LIST_OF_USER, LEASES_OF_USER])
async def test_a_page_of_a_long_history_reads_no_more_than_it_shows(farm: Farm, statement: Any) -> None:
    pool = await farm.pool(2)
    lease = await farm.acquire(pool)
    user_id = lease.users[0].id
    await farm.sql.execute(
        """INSERT INTO leases (fence, principal, operation, purpose, project_id, env, domain, user_ids, acquired_at,
                               expires_at, ttl_seconds, hold_until, ended_at, ended_by)
           SELECT nextval('fence'), 'runner-1', 'acquire_lease', 'test', project_id, env, domain,
                  CASE n % 100 WHEN 0 THEN user_ids ELSE ARRAY[gen_random_uuid()] END, now(), now(), 1, now(), now(),
                  'released'
           FROM leases, generate_series(1, 20000) AS n"""
    )
    await farm.sql.execute(
        "INSERT INTO lease_users (user_id, fence) SELECT unnest(user_ids), fence FROM leases ON CONFLICT DO NOTHING"
    )
    await farm.sql.execute("ANALYZE leases, lease_users")
    sql, names = _with_numbers(statement)
    given: dict[str, object] = dict.fromkeys(names)
    given |= {"user_id": user_id, "before": 2**62, "limit": 10}
    plan = await farm.sql.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", *(given[name] for name in names))
    read = sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in _nodes(json.loads(plan)[0]["Plan"])
        if node.get("Relation Name") in {"leases", "lease_users"}
    )
    assert read <= 50


async def test_a_lease_keeps_what_was_asked_for(farm: Farm) -> None:
    pool = await farm.pool(0)
    await farm.user(pool, plan="paid")
    held = await farm.acquire(pool)
    lease = await farm.services.leases.get(RUNNER, held.id)
    assert (lease.labels, lease.purpose, lease.requested_at) == ({}, "test", held.requested_at)
    assert lease.waited is not None
    assert 0 <= lease.waited < 5
    await farm.release(held)
    await farm.acquire(pool, labels={"plan": "paid"})
    row = await farm.sql.fetchrow("SELECT * FROM leases ORDER BY fence DESC LIMIT 1")
    assert (row["labels"], row["priority"], row["wait_seconds"]) == ('{"plan": "paid"}', 0, 0)


async def test_a_request_that_got_nobody_leaves_its_count(farm: Farm) -> None:
    pool = await farm.pool(1)
    await farm.acquire(pool)
    for seconds in (0, 0, 1):
        with pytest.raises(PoolExhaustedError):
            await farm.acquire(pool, wait_seconds=seconds)
    await farm.services.refusals.close()
    rows = await farm.sql.fetch("SELECT * FROM refused_requests ORDER BY result")
    assert [(row["result"], row["requests"], row["count"], row["wait_seconds"]) for row in rows] == [
        ("exhausted", 2, 1, 0), ("timeout", 1, 1, 1),
    ]  # fmt: skip
    assert rows[1]["waited"] >= 1


async def test_a_refusal_has_the_choices_of_labels_and_none_is_counted_for_one_user(farm: Farm) -> None:
    pool = await farm.pool(0)
    user = await farm.user(pool, plan="paid")
    await farm.acquire(pool)
    long = tuple(f"{number:02}" * 100 for number in range(64))
    wanted: list[WantedLabels] = [{"plan": ("paid", "trial"), "legacy": None}, {"plan": ("paid", *long)}]
    for labels in wanted:
        with pytest.raises(PoolExhaustedError):
            await farm.acquire(pool, labels=labels)
    with pytest.raises(PoolExhaustedError):
        await farm.grant(pool, user=user.login)
    await farm.services.refusals.close()
    rows = await farm.sql.fetch("SELECT labels::jsonb AS labels, requests FROM refused_requests")
    assert [(json.loads(row["labels"]), row["requests"]) for row in rows] == [
        ({"plan": ["paid", "trial"], "legacy": None}, 1)
    ], "labels that are too long for the index are left out"


async def test_old_counts_of_refused_requests_are_pruned(farm: Farm) -> None:
    pool = await farm.pool(1)
    await farm.acquire(pool)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool)
    await farm.services.refusals.close()
    assert await farm.services.maintenance.prune_refusals(asyncio.Event()) == 0
    await farm.sql.execute("UPDATE refused_requests SET minute = minute - interval '400 days'")
    await roll_up(farm)
    assert await farm.services.maintenance.prune_refusals(asyncio.Event()) == 1


async def test_rows_of_users_are_filled_in_for_older_leases_and_for_those_of_the_previous_version(
    farm: Farm,
) -> None:
    pool = await farm.pool(2)
    lease = await farm.acquire(pool, count=2)
    await farm.sql.execute("DELETE FROM lease_users")
    await farm.sql.execute("ALTER TABLE leases DISABLE TRIGGER users_of_new")
    copy = """INSERT INTO leases (fence, principal, operation, project_id, env, domain, user_ids, acquired_at,
                                  expires_at, ttl_seconds, hold_until)
              SELECT nextval('fence'), 'runner-1', 'acquire_lease', project_id, env, domain, user_ids, acquired_at,
                     expires_at, ttl_seconds, hold_until FROM leases WHERE id = $1"""
    await farm.sql.execute(copy, lease.id)
    await farm.sql.execute("ALTER TABLE leases ENABLE TRIGGER users_of_new")
    await farm.sql.execute(copy, lease.id)
    assert await farm.sql.fetchval("SELECT count(*) FROM lease_users") == 2
    async with farm.database.autocommit() as session:
        connection = await session.connection()
        await connection.run_sync(fill_lease_users)
    missing = """SELECT count(*) FROM leases, unnest(user_ids) AS u (id)
                 WHERE NOT EXISTS (SELECT FROM lease_users AS lu WHERE lu.user_id = u.id AND lu.fence = leases.fence)"""
    assert await farm.sql.fetchval(missing) == 0
    assert await farm.sql.fetchval("SELECT count(*) FROM lease_users") == 6


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(inner for each in plan.get("Plans", []) for inner in _nodes(each))]
