"""Waiting requests in the list and in the counts of pools, and the pruning of left-over tickets."""

import asyncio

import httpx
import pytest
from prometheus_client import REGISTRY

from botfarm.domain.access import EVERYTHING
from botfarm.errors import PoolExhaustedError
from support.app import api_client
from support.farm import RUNNER, Farm, test_settings
from support.tickets import forge_replica, forge_ticket


async def listed(api: httpx.AsyncClient, **query: str) -> list[dict[str, object]]:
    answer = await api.get("/leases/waiting", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, object]] = answer.json()["items"]
    return items


async def test_the_queue_is_listed_in_its_order(farm: Farm, database_url: str) -> None:
    pool, other = await farm.pool(1), await farm.pool(1)
    here = await forge_replica(farm)
    second = await forge_ticket(farm, pool, here, waited=10, team="red")
    first = await forge_ticket(farm, pool, here, waited=20, count=2)
    elsewhere = await forge_ticket(farm, other, here, waited=5)
    async with api_client(test_settings(database_url)) as api:
        items = await listed(api, project_id=str(pool.project_id))
        assert [(item["id"], item["place"], item["count"]) for item in items] == [
            (first, 1, 2),
            (second, 2, 1),
        ]
        ticket = items[1]
        assert (ticket["env"], ticket["domain"], ticket["labels"]) == ("stage", "regular", {"team": "red"})
        assert (ticket["principal"], ticket["owner"], ticket["priority"]) == ("elsewhere", "a job", 0)
        assert 10 <= float(str(ticket["waited"])) < 20
        assert 50 < float(str(ticket["ends_in"])) <= 60
        assert {item["id"] for item in await listed(api)} == {first, second, elsewhere}
        assert await listed(api, env="prod") == []
        assert await listed(api, domain="canary") == []


async def test_it_says_when_users_will_probably_come(farm: Farm, database_url: str) -> None:
    pool, other = await farm.pool(2), await farm.pool(1)
    for _ in range(3):
        await farm.release(await farm.acquire(pool))
    await farm.sql.execute("UPDATE leases SET acquired_at = ended_at - interval '60 s'")
    await farm.acquire(pool)
    await farm.acquire(pool)
    here = await forge_replica(farm)
    await forge_ticket(farm, pool, here, waited=20, count=2)
    await forge_ticket(farm, pool, here, waited=10)
    await forge_ticket(farm, other, here)
    async with api_client(test_settings(database_url)) as api:
        # Two users that are held for a minute each: one comes back every 30 seconds.
        assert [item["expected_in"] for item in await listed(api, project_id=str(pool.project_id))] == [
            60,
            90,
        ]
        assert [item["expected_in"] for item in await listed(api, project_id=str(other.project_id))] == [None]


async def test_it_says_which_labels_or_which_user_a_request_waits_for(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(0)
    user = await farm.user(pool)
    await farm.release(await farm.acquire(pool))
    await farm.acquire(pool)
    here = await forge_replica(farm)
    await forge_ticket(farm, pool, here, waited=20, user_id=user.id)
    await forge_ticket(
        farm, pool, here, waited=10, choices={"plan": ["paid", "trial"], "legacy": None}, team="red"
    )
    async with api_client(test_settings(database_url)) as api:
        one, chosen = await listed(api)
        assert (one["login"], one["labels"], one["expected_in"]) == (user.login, {}, None)
        assert chosen["labels"] == {"team": "red", "plan": ["paid", "trial"], "legacy": None}
        assert (chosen["login"], chosen["expected_in"] is not None) == (None, True)


async def test_tickets_that_are_not_live_are_not_in_the_queue(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(1)
    here, dead = await forge_replica(farm), await forge_replica(farm, seen_ago=6)
    await forge_ticket(farm, pool, here, ends_in=-1)
    await forge_ticket(farm, pool, dead)
    await forge_ticket(farm, pool, None)
    async with api_client(test_settings(database_url)) as api:
        assert await listed(api) == []
        (counts,) = (await api.get("/pools")).json()["items"]
        assert (counts["waiting"], counts["oldest_wait"]) == (0, None)
        await forge_ticket(farm, pool, here, waited=30)
        await forge_ticket(farm, pool, here, waited=3)
        (counts,) = (await api.get("/pools")).json()["items"]
        assert counts["waiting"] == 2
        assert 30 <= counts["oldest_wait"] < 60


async def test_a_scope_sees_its_own_queues(farm: Farm, database_url: str) -> None:
    pool, other = await farm.pool(1), await farm.pool(1)
    here = await forge_replica(farm)
    ours = await forge_ticket(farm, pool, here)
    await forge_ticket(farm, other, here)
    async with api_client(test_settings(database_url)) as api:
        for projects, envs, seen in (
            ([str(pool.project_id)], ["*"], [ours]),
            (["*"], ["prod"], []),
        ):
            token = {"name": "eyes", "role": "viewer", "projects": projects, "envs": envs}
            made = (await api.post("/tokens", json=token)).json()["token"]
            answer = await api.get("/leases/waiting", headers={"Authorization": f"Bearer {made}"})
            assert [item["id"] for item in answer.json()["items"]] == seen


async def test_left_over_tickets_and_replicas_are_pruned(farm: Farm) -> None:
    pool = await farm.pool(1)
    here, long_gone = await forge_replica(farm), await forge_replica(farm, seen_ago=100_000)
    await forge_ticket(farm, pool, here, ends_in=-61)
    await forge_ticket(farm, pool, None, ends_in=-61)
    recent = await forge_ticket(farm, pool, here, ends_in=-30)
    waiting = await forge_ticket(farm, pool, here)
    assert await farm.services.maintenance.prune_tickets() == 2
    assert {row["id"] for row in await farm.sql.fetch("SELECT id FROM tickets")} == {recent, waiting}
    assert [row["id"] for row in await farm.sql.fetch("SELECT id FROM replicas")] == [here]
    assert long_gone != here


async def test_the_wait_of_a_repeated_request_counts_from_the_first_request(farm: Farm) -> None:
    pool = await farm.pool(1)
    name = (await farm.services.projects.get(EVERYTHING, pool.project_id)).name
    held = await farm.acquire(pool)
    with pytest.raises(PoolExhaustedError):
        await farm.acquire(pool, wait_seconds=0.5, idempotency_key="job-1")
    waiting = asyncio.create_task(farm.acquire(pool, wait_seconds=10, idempotency_key="job-1"))
    while not await farm.sql.fetchval("SELECT EXISTS (SELECT FROM tickets WHERE replica IS NOT NULL)"):
        await asyncio.sleep(0.01)
    await farm.services.leases.release(RUNNER, held.id)
    await waiting
    labels = {"project": name, "env": pool.env, "domain": pool.domain}
    assert REGISTRY.get_sample_value("botfarm_acquire_wait_seconds_count", labels) == 2
    assert (REGISTRY.get_sample_value("botfarm_acquire_wait_seconds_sum", labels) or 0) > 0.5
