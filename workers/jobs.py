"""What the worker's jobs share: an interval, a retry with the next tick, a heartbeat and a metric."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from botfarm import metrics
from botfarm.errors import DatabaseUnavailableError
from botfarm.logs import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    name: str
    interval: float
    """Seconds."""
    tick: Callable[[], Awaitable[None]]


class Heartbeat:
    """When each job last ended a tick, by the monotonic clock."""

    def __init__(self, jobs: list[Job]) -> None:
        self._jobs = jobs
        self._beats = dict.fromkeys((job.name for job in jobs), time.monotonic())

    def beat(self, job: Job) -> None:
        self._beats[job.name] = time.monotonic()

    def late_jobs(self) -> list[str]:
        """The jobs whose last tick is more than three intervals ago."""
        now = time.monotonic()
        return [job.name for job in self._jobs if now - self._beats[job.name] > 3 * job.interval]


async def run_tick(job: Job, heartbeat: Heartbeat) -> None:
    """Never raises, because the next tick is the retry.

    A failed tick also updates the heartbeat, because a restart would not help.
    """
    try:
        await job.tick()
    except DatabaseUnavailableError as error:
        metrics.worker_job_failures_total.labels(job.name).inc()
        logger.warning("job failed", job=job.name, reason=error.reason)
    except Exception:
        metrics.worker_job_failures_total.labels(job.name).inc()
        logger.exception("job failed", job=job.name)
    finally:
        heartbeat.beat(job)
