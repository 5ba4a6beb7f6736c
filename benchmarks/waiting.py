"""Requests that wait for a user: their cost while no user is free, and how soon they get a freed user."""

import asyncio
import statistics
import time
from itertools import pairwise

import uvloop

from benchmarks.client import Connection, connect, connected
from benchmarks.database import fetch_value, settle
from benchmarks.fairness import measure_fairness
from benchmarks.farm import Farm, has_setting, running_farm
from benchmarks.filling import hold_users
from benchmarks.load import measure_pairs
from benchmarks.machine import cpu_seconds
from benchmarks.run import Run

_LONGEST_WAIT = 300
_SETTLED = 3.0  # seconds until all waiting requests have tried once and are parked
_PARKED = 0.05  # seconds until one request is parked

_CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


def measure_waiting(run: Run) -> None:
    plan = run.plan
    settings: dict[str, object] = {"max_wait": _LONGEST_WAIT}
    if has_setting("max_waiters"):
        settings["max_waiters"] = 2 * plan.waiters
    with running_farm(run.postgres, "waiting", replicas=3, **settings) as farm:
        hold_users(farm.database_url, farm.add_pool("all-leased", 10), percent=100)
        farm.add_pool("shop", plan.pool_sizes[0])
        farm.add_pool("one-user", 1)
        farm.add_pool("few-users", 20)
        settle(farm.database_url)
        for name, measure in (
            ("idle-waiters", lambda: _measure_idle_waiters(farm, run)),
            ("wake", lambda: uvloop.run(_measure_wake(farm, run))),
            ("fairness", lambda: measure_fairness(farm, "few-users", run)),
        ):
            run.say(name)
            run.measure(name, measure)
            farm.clear()


def _measure_idle_waiters(farm: Farm, run: Run) -> None:
    """Waiters at one process, which opens before as many database connections as load needs."""
    plan = run.plan
    port, pid = farm.ports[0], farm.apis[0].process.pid
    measure_pairs(run.tools.wrk, ports=[port], token=farm.token, project="shop", connections=64, seconds=1)
    farm.clear()
    connections_before = fetch_value(farm.database_url, _CONNECTIONS)
    cpu_before = uvloop.run(_cpu_share(pid, plan.idle_seconds))

    async def with_waiters() -> tuple[float, int]:
        waiters = [await connect(port, farm.token) for _ in range(plan.waiters)]
        body = {"project": "all-leased", "env": "stage", "wait_seconds": _LONGEST_WAIT}
        for waiter in waiters:
            waiter.send("POST", "/leases", body)
        answers = [asyncio.ensure_future(waiter.answer()) for waiter in waiters]
        await asyncio.sleep(_SETTLED)
        share = await _cpu_share(pid, plan.idle_seconds)
        connections = await asyncio.to_thread(fetch_value, farm.database_url, _CONNECTIONS)
        early = [answer.result() for answer in answers if answer.done()]
        for answer, waiter in zip(answers, waiters, strict=True):
            answer.cancel()
            waiter.close()
        await asyncio.gather(*answers, return_exceptions=True)
        if early:
            raise RuntimeError(f"{len(early)} of {plan.waiters} did not wait, the first got {early[0]}")
        return share, connections

    cpu, connections = uvloop.run(with_waiters())
    run.results.add(
        "idle-waiters",
        waiters=plan.waiters,
        cpu=cpu,
        cpu_without=cpu_before,
        database_connections=connections,
        database_connections_without=connections_before,
    )


async def _cpu_share(pid: int, seconds: float) -> float:
    """Share of one core that the process uses."""
    used, began = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_seconds(pid) - used) / (time.monotonic() - began)


async def _measure_wake(farm: Farm, run: Run) -> None:
    """Hands one user to and fro between two replicas, each time to the only waiter."""
    sent, answered, acquires = [], [], []
    async with connected(farm.ports[0], farm.token) as one, connected(farm.ports[1], farm.token) as other:
        lease = await one.acquire("one-user")
        for holder, waiter in pairwise([one, other] * (run.plan.wakes // 2) + [one]):
            lease, from_sent, from_answered = await _hand_on(lease, holder, waiter)
            sent.append(from_sent)
            answered.append(from_answered)
            acquires.append(await _uncontended(holder))
        await one.release(lease)
    run.results.add(
        "wake",
        hand_overs=len(sent),
        from_release_sent_p50_ms=statistics.median(sent),
        from_release_sent_p99_ms=_p99(sent),
        from_release_answered_p50_ms=statistics.median(answered),
        from_release_answered_p99_ms=_p99(answered),
        acquire_p50_ms=statistics.median(acquires),
        acquire_p99_ms=_p99(acquires),
    )


async def _hand_on(
    lease: dict[str, object], holder: Connection, waiter: Connection
) -> tuple[dict[str, object], float, float]:
    """Returns the waiter's lease, and two times in milliseconds.

    They are the times from the release's request, and from its answer, to the answer of the waiter.
    """
    waiting = asyncio.create_task(waiter.acquire("one-user", wait_seconds=30))
    await asyncio.sleep(_PARKED)
    granted_at = 0.0

    def granted(_: object) -> None:
        nonlocal granted_at
        granted_at = time.perf_counter()

    waiting.add_done_callback(granted)
    sent_at = time.perf_counter()
    await holder.release(lease)
    answered_at = time.perf_counter()
    new_lease = await waiting
    return new_lease, (granted_at - sent_at) * 1000, (granted_at - answered_at) * 1000


async def _uncontended(connection: Connection) -> float:
    """Milliseconds of an acquire from a pool without other callers, as long after the last request as a hand-over."""
    await asyncio.sleep(_PARKED)
    began = time.perf_counter()
    lease = await connection.acquire("shop")
    took = (time.perf_counter() - began) * 1000
    await connection.release(lease)
    return took


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
