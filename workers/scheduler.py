"""Runs the worker's jobs with APScheduler. Any number of replicas may run: no job needs a leader."""

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from botfarm import metrics
from botfarm.logs import get_logger
from botfarm.process.connection_limits import ConnectionLimits
from botfarm.process.http_server import HttpServer
from botfarm.runtime.services import Services, open_services
from botfarm.settings import Settings
from workers.jobs import Heartbeat, Job, run_tick
from workers.probes import create_probes
from workers.upkeep_jobs import fill_login_keys, prune, prune_tickets, reap, refresh_gauges, roll_up

logger = get_logger(__name__)

PRUNE_INTERVAL = 3_600.0
TICKETS_INTERVAL = 60.0
PROBE_CONNECTIONS = 100
LOGINS_INTERVAL = 60.0
ROLLUPS_INTERVAL = 60.0


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Runs the jobs until `stop` is set. A tick in flight finishes first, a long one only its batch."""
    async with open_services(settings, "worker", in_background=True) as services:
        jobs = _jobs(services, settings, stop)
        await _run_jobs(jobs, Heartbeat(jobs), stop)


async def work_with_probes(
    settings: Settings, listening: socket.socket, stop: asyncio.Event, *, announce: Callable[[], None]
) -> None:
    """As `work`, with probes and metrics on a port."""
    async with (
        open_services(settings, "worker", in_background=True) as services,
        asyncio.TaskGroup() as tasks,
    ):
        jobs = _jobs(services, settings, stop)
        heartbeat = Heartbeat(jobs)
        limits = ConnectionLimits(connections=PROBE_CONNECTIONS)
        server = HttpServer(create_probes(services.readiness, heartbeat), announce=announce, limits=limits)
        tasks.create_task(server.serve(sockets=[listening]))
        watch = tasks.create_task(services.readiness.watch())
        await _run_jobs(jobs, heartbeat, stop)
        watch.cancel()
        server.should_exit = True


def _jobs(services: Services, settings: Settings, stop: asyncio.Event) -> list[Job]:
    jobs = [
        Job("reap", settings.reap_interval, partial(reap, services.maintenance)),
        Job("gauges", settings.gauges_interval, partial(refresh_gauges, services.maintenance)),
        Job("tickets", TICKETS_INTERVAL, partial(prune_tickets, services.maintenance)),
        Job("logins", LOGINS_INTERVAL, partial(fill_login_keys, services.maintenance, stop)),
        Job("prune", PRUNE_INTERVAL, partial(prune, services.maintenance, services.rollups, stop)),
        Job("rollups", ROLLUPS_INTERVAL, partial(roll_up, services.rollups, stop)),
    ]
    for job in jobs:
        metrics.worker_job_failures_total.labels(job.name)
    return jobs


async def _run_jobs(jobs: list[Job], heartbeat: Heartbeat, stop: asyncio.Event) -> None:
    running: set[asyncio.Task[None]] = set()

    async def tick(job: Job) -> None:
        task = asyncio.create_task(run_tick(job, heartbeat))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.shield(task)  # a scheduler that stops cancels this await, and must not cancel the tick

    scheduler = AsyncIOScheduler(timezone=UTC)
    for job in jobs:
        scheduler.add_job(
            tick,
            "interval",
            args=[job],
            id=job.name,
            seconds=job.interval,
            jitter=job.interval / 10,  # replicas that start together drift apart
            next_run_time=datetime.now(UTC),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
    scheduler.start()
    try:
        await stop.wait()
    finally:
        scheduler.pause()
        await asyncio.gather(*running)
        scheduler.shutdown(wait=False)
