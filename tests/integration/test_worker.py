"""Runners that die, and the worker that reaps their leases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from prometheus_client import REGISTRY

from botfarm.domain.access import EVERYTHING
from botfarm.domain.leases import EndedBy, Lease
from botfarm.domain.pools import Pool
from botfarm.process.http_server import listen, url_of
from botfarm.services.upkeep.maintenance import REAP_BATCH
from support.farm import RUNNER, Farm, test_settings
from support.proxy import proxy_to
from support.rollups import roll_up, rollups
from support.tickets import forge_replica, forge_ticket
from workers.scheduler import work_with_probes


@asynccontextmanager
async def worker(database_url: str) -> AsyncIterator[str]:
    """Runs a worker in this process on a free port; gives the URL of its probes."""
    settings = test_settings(database_url, reap_interval=0.1, gauges_interval=0.1)
    listening = listen("127.0.0.1", 0, setting="BOTFARM_WORKER_PORT")
    stop, up = asyncio.Event(), asyncio.Event()
    working = asyncio.create_task(work_with_probes(settings, listening, stop, announce=up.set))
    await asyncio.wait_for(up.wait(), 10)
    try:
        yield url_of(listening)
    finally:
        stop.set()
        await asyncio.wait_for(working, 10)


async def until_closed(farm: Farm, lease: Lease) -> None:
    async with asyncio.timeout(60):
        while await farm.sql.fetchval("SELECT ended_at IS NULL FROM leases WHERE id = $1", lease.id):
            await asyncio.sleep(0.02)


async def forge_expired_leases(farm: Farm, pool: Pool, number: int) -> None:
    await farm.sql.execute(
        """INSERT INTO leases (fence, principal, operation, project_id, env, domain, user_ids,
                               acquired_at, expires_at, ttl_seconds, hold_until)
           SELECT nextval('fence'), 'dead', 'acquire_lease', $1, $2, $3, ARRAY[gen_random_uuid()],
                  clock_timestamp() - interval '1 hour', clock_timestamp() - interval '1 minute',
                  60, clock_timestamp()
           FROM generate_series(1, $4)""",
        pool.project_id,
        pool.env,
        pool.domain,
        number,
    )


@pytest.mark.parametrize("workers_alive", [True, False])
async def test_the_user_of_a_dead_runner_comes_back_after_ttl_and_lock_delay(
    farm: Farm, database_url: str, workers_alive: bool
) -> None:
    pool = await farm.pool(1, lock_delay=1)
    lost = await farm.acquire(pool, ttl_seconds=1)
    if workers_alive:
        async with worker(database_url):
            next_one = await farm.acquire(pool, wait_seconds=10)
            await until_closed(farm, lost)
    else:
        next_one = await farm.acquire(pool, wait_seconds=10)
        assert await farm.sql.fetchval("SELECT ended_at FROM leases WHERE id = $1", lost.id) is None
        async with worker(database_url):
            await until_closed(farm, lost)
    assert next_one.users[0].id == lost.users[0].id
    assert (next_one.acquired_at - lost.expires_at).total_seconds() >= 1
    closed = await farm.services.leases.get(RUNNER, lost.id)
    assert (closed.ended_by, closed.ended_at) == (EndedBy.EXPIRED, lost.expires_at)
    assert (await farm.services.leases.get(RUNNER, next_one.id)).is_live


async def test_reaping_clears_the_lock_of_every_expired_lease_and_of_no_other(farm: Farm) -> None:
    pool = await farm.pool(5)
    leases = [await farm.acquire(pool) for _ in range(4)]
    for lease in leases[:3]:
        await farm.expire(lease.id)
    assert await farm.services.maintenance.reap() == 3
    assert await farm.services.maintenance.reap() == 0
    assert await farm.sql.fetchval("SELECT count(*) FROM users WHERE locktime IS NOT NULL") == 1
    assert (await farm.services.leases.get(RUNNER, leases[3].id)).is_live


async def test_many_expired_leases_are_reaped_batch_by_batch_by_all_workers_at_once(farm: Farm) -> None:
    pool = await farm.pool(1)
    expired = REAP_BATCH * 2 + 1
    await forge_expired_leases(farm, pool, expired)
    counts = await asyncio.gather(*(farm.services.maintenance.reap() for _ in range(3)))
    assert sum(counts) == expired
    assert await farm.sql.fetchval("SELECT count(*) FROM leases WHERE ended_at IS NULL") == 0


async def test_old_history_is_pruned_and_live_leases_never(farm: Farm) -> None:
    pool = await farm.pool(3)
    old, recent, live = [await farm.acquire(pool) for _ in range(3)]
    for lease in (old, recent):
        await farm.services.leases.release(RUNNER, lease.id)
    await farm.sql.execute(
        "UPDATE leases SET ended_at = ended_at - interval '400 days' WHERE id = $1", old.id
    )
    await roll_up(farm)
    assert await farm.services.maintenance.prune_history(asyncio.Event()) == 1
    assert {row["id"] for row in await farm.sql.fetch("SELECT id FROM leases")} == {recent.id, live.id}


async def test_a_worker_that_is_to_stop_leaves_the_rest_of_a_long_history_to_the_next(
    farm: Farm, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botfarm.services.upkeep.maintenance.PRUNE_BATCH", 1)
    old = 5_000  # statements, many more than stopping may wait for
    await forge_expired_leases(farm, await farm.pool(1), old)
    await farm.sql.execute(
        "UPDATE leases SET ended_at = expires_at - interval '400 days', ended_by = 'expired'"
    )
    await roll_up(farm)
    async with worker(database_url), asyncio.timeout(60):
        while await farm.sql.fetchval("SELECT count(*) FROM leases") == old:
            await asyncio.sleep(0.01)
    assert 0 < await farm.sql.fetchval("SELECT count(*) FROM leases") < old


async def test_the_worker_shows_how_the_pools_are_used(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(3)
    await farm.acquire(pool)
    await forge_ticket(farm, pool, await forge_replica(farm, seen_ago=-60), waited=60)
    name = (await farm.services.projects.get(EVERYTHING, pool.project_id)).name
    labels = f'domain="regular",env="stage",project="{name}"'
    async with worker(database_url) as url, httpx.AsyncClient(base_url=url) as client, asyncio.timeout(60):
        metrics = ""
        while f'botfarm_users{{{labels},state="leased"}} 1.0' not in metrics:
            metrics = (await client.get("/metrics")).text
        assert f'botfarm_users{{{labels},state="free"}} 2.0' in metrics
        assert f'botfarm_users{{{labels},state="quarantined"}} 0.0' in metrics
        assert f"botfarm_waiters{{{labels}}} 1.0" in metrics
        assert f"botfarm_oldest_wait_seconds{{{labels}}} 6" in metrics
        assert f"botfarm_quarantine_capped_total{{{labels}}} 0.0" in metrics
        assert 'botfarm_db_dead_tuples{table="users"}' in metrics
        for probe in ("/livez", "/readyz"):  # on a busy machine, ticks of 100 ms may be late
            while (await client.get(probe)).status_code != 200:
                await asyncio.sleep(0.01)


async def test_the_worker_rolls_up_how_the_pools_were_used(farm: Farm, database_url: str) -> None:
    pool = await farm.pool(1)
    await farm.release(await farm.acquire(pool))
    async with worker(database_url), asyncio.timeout(60):
        while not await rollups(farm, pool):
            await asyncio.sleep(0.01)
    (found,) = (await rollups(farm, pool)).values()
    assert (found["granted"], found["ends"]) == (1, '{"ok": 1}')


async def test_a_worker_survives_a_database_that_is_away(farm: Farm, database_url: str) -> None:
    lease = await farm.acquire(await farm.pool(1))
    failures = REGISTRY.get_sample_value("botfarm_worker_job_failures_total", {"job_name": "reap"}) or 0
    async with (
        proxy_to(database_url) as proxy,
        worker(proxy.url) as url,
        httpx.AsyncClient(base_url=url) as client,
        asyncio.timeout(60),
    ):
        while "botfarm_users{" not in (await client.get("/metrics")).text:
            await asyncio.sleep(0.02)
        await proxy.cut()
        while "botfarm_users{" in (await client.get("/metrics")).text:  # `max` would take the old values
            await asyncio.sleep(0.02)
        while (
            REGISTRY.get_sample_value("botfarm_worker_job_failures_total", {"job_name": "reap"}) or 0
        ) == failures:
            await asyncio.sleep(0.02)
        while (
            await client.get("/livez")
        ).status_code != 200:  # ticks of 100 ms may be late on a busy machine
            await asyncio.sleep(0.01)
        await farm.expire(lease.id)
        await proxy.mend()
        await until_closed(farm, lease)
