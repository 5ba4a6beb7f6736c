"""Kubernetes and Compose start processes in any order: each waits for what it needs; its probes say so."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from farm_load import POOL
from stages import run
from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import BOTFARM, running
from support.proxy import proxy_to


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_the_api_and_a_worker_may_come_before_the_database_and_that_before_its_schema(
    database_url: str,
) -> None:
    async with proxy_to(database_url) as proxy, httpx.AsyncClient(timeout=60) as client:

        async def status(url: str) -> int:
            return (await client.get(url)).status_code

        await proxy.cut()
        environment = {
            **two_roles(proxy.url),
            "BOTFARM_ENCRYPTION_KEYS": KEYS,
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
            "BOTFARM_WORKER_PORT": "0",
        }
        with (
            running(BOTFARM, "serve", environment=environment) as api,
            running(BOTFARM, "worker", environment=environment) as worker,
        ):
            urls = (await asyncio.to_thread(api.url), await asyncio.to_thread(worker.url))
            assert [await status(f"{url}/livez") for url in urls] == [200, 200]
            assert [await status(f"{url}/readyz") for url in urls] == [503, 503]
            await proxy.mend()
            asked = await client.get(f"{urls[0]}/api/v1/pools", headers={"Authorization": f"Bearer {TOKEN}"})
            assert asked.status_code == 503  # there is a database, and nothing in it
            assert [await status(f"{url}/readyz") for url in urls] == [503, 503]
            for command in ("migrate", "demo"):
                await asyncio.to_thread(run, BOTFARM, command, environment=environment)
            for url in urls:
                await until(lambda url=url: _is(200, status(f"{url}/readyz")))  # type: ignore[misc]
            lease = await client.post(
                f"{urls[0]}/api/v1/leases", json=POOL, headers={"Authorization": f"Bearer {TOKEN}"}
            )
            assert lease.status_code == 201, lease.text
            await proxy.cut()


async def _is(wanted: int, status: Awaitable[int]) -> bool:
    return await status == wanted
