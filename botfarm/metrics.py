"""Every metric of the farm, with its help. Labels are bounded: pools, results and route templates, never ids.

Each process counts the work that it does. Every worker sets the gauges of the farm's state, all to the same
values, so dashboards aggregate them with `max by (...)`, never with `sum`.
"""

import functools
from collections.abc import Iterator

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from botfarm.domain.leases import BLAMELESS, Due, EndedBy, EndedLease, Lease, Outcome, Purpose, Reason
from botfarm.domain.users import BY_HAND, CLEANING_FAILED, POLICY, UserState

disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody needs a second series for each counter

POOL = ("project", "env", "domain")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
WAIT_SECONDS = (*SECONDS, 600)
HOLD_SECONDS = (1, 5, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)

users = Gauge("botfarm_users", "Users by state.", (*POOL, "state"))
users_health = Gauge("botfarm_users_health", "Users by health, without retired ones.", (*POOL, "health"))
oldest_dirty_seconds = Gauge(
    "botfarm_oldest_dirty_seconds",
    "How long the user has been dirty that has been longest; 0 when none is.",
    POOL,
)
quarantines_total = Counter(
    "botfarm_quarantines", "Users quarantined, by hand or by policy.", (*POOL, "by", "reason")
)
restores_total = Counter("botfarm_restores", "Users restored, by hand or by a keeper.", (*POOL, "by"))
quarantine_capped_total = Counter(
    "botfarm_quarantine_capped",
    "Users that stay although they fail, because too many were quarantined.",
    POOL,
)
chores_total = Counter(
    "botfarm_chores", "Chores by what was due and how they ended.", (*POOL, "due", "outcome")
)
waiters = Gauge("botfarm_waiters", "Requests that wait for users.", POOL)
oldest_wait_seconds = Gauge(
    "botfarm_oldest_wait_seconds",
    "How long the oldest waiting request has waited; 0 when none waits.",
    POOL,
)
acquire_total = Counter("botfarm_acquire", "Requests for a lease by result.", (*POOL, "result"))
acquire_wait_seconds = Histogram(
    "botfarm_acquire_wait_seconds", "Time from the first request to the grant.", POOL, buckets=WAIT_SECONDS
)
lease_hold_seconds = Histogram(
    "botfarm_lease_hold_seconds", "Time from the grant to the end of a lease.", POOL, buckets=HOLD_SECONDS
)
leases_ended_total = Counter(
    "botfarm_leases_ended", "Leases by how they ended.", (*POOL, "ended_by", "outcome")
)
renew_total = Counter("botfarm_renew", "Renewals by result.", ("result",))
reaper_last_success = Gauge(
    "botfarm_reaper_last_success_timestamp_seconds",
    "When this worker last looked for expired leases (Unix time).",
)
gauges_last_success = Gauge(
    "botfarm_gauges_last_success_timestamp_seconds",
    "When this worker last counted the pools (Unix time).",
)
reaper_lag_seconds = Gauge(
    "botfarm_reaper_lag_seconds", "Age of the oldest expired lease that is still open."
)
worker_job_failures_total = Counter(
    "botfarm_worker_job_failures", "Runs of a worker's job that failed.", ("job_name",)
)
http_requests_total = Counter(
    "botfarm_http_requests", "Requests by route template.", ("method", "route", "status")
)
http_request_duration_seconds = Histogram(
    "botfarm_http_request_duration_seconds",
    "Time to answer by route template.",
    ("method", "route"),
    buckets=SECONDS,
)
problems_total = Counter(
    "botfarm_problems", "Problems answered by route template and type.", ("method", "route", "type")
)
connections_closed_total = Counter(
    "botfarm_connections_closed", "Connections that the server closed at one of its limits.", ("reason",)
)
ready = Gauge("botfarm_ready", "1 while this process is ready, as /readyz says, else 0.", ("process",))
db_up = Gauge("botfarm_db_up", "1 while the database answers this process, else 0.")
db_pool_wait_seconds = Histogram(
    "botfarm_db_pool_wait_seconds", "Time a request waited for a database connection.", buckets=SECONDS
)
db_pool_timeouts_total = Counter(
    "botfarm_db_pool_timeouts", "Requests that waited for a database connection in vain."
)
db_dead_tuples = Gauge("botfarm_db_dead_tuples", "Dead tuples that vacuum has not removed yet.", ("table",))
db_oldest_snapshot_seconds = Gauge(
    "botfarm_db_oldest_snapshot_seconds", "Age of the oldest snapshot; an old one keeps vacuum from its work."
)

db_clock_step_seconds_total = Counter(
    "botfarm_db_clock_step_seconds",
    "Seconds by which the database's clock was stepped, as this process saw it.",
    ("direction",),
)

encrypted_values = Gauge(
    "botfarm_encrypted_values",
    "Stored passwords, secrets and TOTP seeds by the key that encrypted them.",
    ("key_id",),
)
encryption_key_active = Gauge(
    "botfarm_encryption_key_active", "1 for the key that encrypts what this process stores.", ("key_id",)
)

batch_size = Histogram(
    "botfarm_batch_size",
    "Requests that one statement served.",
    ("operation",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)

ACQUIRE_RESULTS = ("granted", "replayed", "exhausted", "timeout", "quota", "gone", "error")
RENEW_RESULTS = ("ok", "lapsed")
CLOSING_REASONS = ("too_large", "too_slow", "too_many")
USER_STATES = tuple(state.value for state in UserState)

ENDS = (("released", "ok"), ("released", "dirty"), ("released", "broken"), ("expired", ""), ("forced", ""))
LOST = "lost"
"""The outcome of a chore without one."""
QUARANTINES = (
    # By hand without a reason, because people write what they like.
    (BY_HAND, ""),
    *((POLICY, reason.value) for reason in Reason if reason not in BLAMELESS),
    (POLICY, CLEANING_FAILED),
)
CHORES = tuple((due.value, outcome) for due in Due for outcome in (*map(str, Outcome), LOST))

for _direction in ("forward", "backward"):
    db_clock_step_seconds_total.labels(_direction)
for _operation in ("acquire", "renew", "release"):
    batch_size.labels(_operation)
for _result in RENEW_RESULTS:
    renew_total.labels(_result)
for _reason in CLOSING_REASONS:
    connections_closed_total.labels(_reason)


def count_clock_step(seconds: float) -> None:
    """Counts a step of the database's clock; negative seconds are a step backward."""
    direction = "forward" if seconds > 0 else "backward"
    db_clock_step_seconds_total.labels(direction).inc(abs(seconds))


def count_released_lease(lease: Lease) -> None:
    """Counts a lease that a release, forced or not, has just ended."""
    assert lease.ended_at is not None and lease.ended_by is not None  # noqa: S101, PT018
    if lease.purpose is Purpose.CHORE:
        count_chore(lease)
    held_for = (lease.ended_at - lease.acquired_at).total_seconds()
    count_ended_lease(
        EndedLease(lease.pool, lease.project_name, held_for, lease.id, lease.purpose),
        lease.ended_by,
        lease.outcome,
    )


def count_chore(lease: Lease) -> None:
    """Counts what was due for each user of a keeper's lease that has just ended."""
    labels = pool_labels(lease.project_name, lease.pool.env, lease.pool.domain)
    for user in lease.users:
        for due in user.due:
            chores_total.labels(*labels, due, user.outcome or LOST).inc()


def count_ended_lease(ended: EndedLease, ended_by: EndedBy, outcome: Outcome | None) -> None:
    labels = pool_labels(ended.project_name, ended.pool.env, ended.pool.domain)
    leases_ended_total.labels(*labels, ended_by.value, outcome.value if outcome else "").inc()
    lease_hold_seconds.labels(*labels).observe(ended.held_for)


@functools.cache
def fill_pool(project: str, env: str, domain: str) -> None:
    """Creates a pool's series with zeros, because `rate` misses the first event of a new series."""
    for result in ACQUIRE_RESULTS:
        acquire_total.labels(project, env, domain, result)
    for ended_by, outcome in ENDS:
        leases_ended_total.labels(project, env, domain, ended_by, outcome)
    for by, reason in QUARANTINES:
        quarantines_total.labels(project, env, domain, by, reason)
    for due, outcome in CHORES:
        chores_total.labels(project, env, domain, due, outcome)
    restores_total.labels(project, env, domain, BY_HAND)
    quarantine_capped_total.labels(project, env, domain)
    acquire_wait_seconds.labels(project, env, domain)
    lease_hold_seconds.labels(project, env, domain)


def exposition(*, with_pools: bool) -> bytes:
    """The metrics in Prometheus' text format. Without pools, only metrics that name no project."""
    return generate_latest(REGISTRY if with_pools else _WITHOUT_POOLS)


class _WithoutPools(Collector):
    """Leaves out metrics of pools, also without samples, because the first sample would reveal an event."""

    @override
    def collect(self) -> Iterator[Metric]:
        for family in REGISTRY.collect():
            if family.name not in _OF_POOLS:
                yield family


_OF_POOLS = frozenset(
    family.name
    for metric in (
        users,
        users_health,
        oldest_dirty_seconds,
        quarantines_total,
        restores_total,
        quarantine_capped_total,
        chores_total,
        waiters,
        oldest_wait_seconds,
        acquire_total,
        acquire_wait_seconds,
        lease_hold_seconds,
        leases_ended_total,
    )
    for family in metric.describe()
)
_WITHOUT_POOLS = CollectorRegistry()
_WITHOUT_POOLS.register(_WithoutPools())


def pool_labels(project_name: str, env: str, domain: str) -> tuple[str, str, str]:
    labels = (project_name, env, domain)
    fill_pool(*labels)
    return labels
