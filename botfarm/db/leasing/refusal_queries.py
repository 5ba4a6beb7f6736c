"""Counts requests that got no user, minute by minute: what leases do not tell about the demand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.rolled_up import ROLLED_UP_TO
from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Pool

RefusalResult = Literal["exhausted", "timeout", "gone", "quota"]

# Rows are inserted in one order, so that two replicas do not deadlock.
COUNT = text("""
    INSERT INTO refused_requests AS r (minute, project_id, env, domain, purpose, result, labels, count, priority,
                                       wait_seconds, requests, waited, longest_wait)
    SELECT date_trunc('minute', clock_timestamp()), project_id, env, domain, purpose, result, CAST(labels AS jsonb),
           count, priority, wait_seconds, requests, waited, longest_wait
    FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]),
                CAST(:purposes AS text[]), CAST(:results AS text[]), CAST(:labels AS text[]),
                CAST(:counts AS integer[]), CAST(:priorities AS integer[]), CAST(:wait_seconds AS float8[]),
                CAST(:requests AS bigint[]), CAST(:waited AS float8[]), CAST(:longest_waits AS float8[]))
         AS new (project_id, env, domain, purpose, result, labels, count, priority, wait_seconds, requests, waited,
                 longest_wait)
    ORDER BY project_id, env, domain, purpose, result, labels, count, priority, wait_seconds
    ON CONFLICT (minute, project_id, env, domain, purpose, result, labels, count, priority, wait_seconds)
    DO UPDATE SET requests = r.requests + excluded.requests, waited = r.waited + excluded.waited,
                  longest_wait = greatest(r.longest_wait, excluded.longest_wait)""")

PRUNE = text(f"""
    WITH old AS MATERIALIZED (
        SELECT ctid FROM refused_requests
        WHERE minute < clock_timestamp() - make_interval(days => :days) AND minute < {ROLLED_UP_TO} LIMIT :batch
    )
    DELETE FROM refused_requests USING old WHERE refused_requests.ctid = old.ctid
    RETURNING 1""")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of request that got no user."""

    pool: Pool
    purpose: Purpose
    result: RefusalResult
    labels: frozenset[tuple[str, str | tuple[str, ...] | None]]
    count: int
    priority: int
    wait_seconds: float
    """How long it was ready to wait."""


@dataclass(slots=True)
class RefusedRequests:
    requests: int = 0
    waited: float = 0
    """Seconds, of all together."""
    longest_wait: float = 0


MAX_LABELS_BYTES = 2_000
"""The labels are part of a key, and PostgreSQL refuses a row of an index that is larger than 2,704 bytes."""


def labels_of(kind: Refusal) -> str:
    return json.dumps(dict(sorted(kind.labels)))


async def count_refusals(session: AsyncSession, refused: Mapping[Refusal, RefusedRequests]) -> None:
    """Adds the requests to those of the same kind and minute. Leaves out kinds with very long labels."""
    storable = {kind: total for kind, total in refused.items() if len(labels_of(kind)) <= MAX_LABELS_BYTES}
    kinds, totals = list(storable), list(storable.values())
    parameters = {
        "project_ids": [kind.pool.project_id for kind in kinds],
        "envs": [kind.pool.env for kind in kinds],
        "domains": [kind.pool.domain for kind in kinds],
        "purposes": [kind.purpose.value for kind in kinds],
        "results": [kind.result for kind in kinds],
        "labels": [labels_of(kind) for kind in kinds],
        "counts": [kind.count for kind in kinds],
        "priorities": [kind.priority for kind in kinds],
        "wait_seconds": [kind.wait_seconds for kind in kinds],
        "requests": [total.requests for total in totals],
        "waited": [total.waited for total in totals],
        "longest_waits": [total.longest_wait for total in totals],
    }
    await session.execute(COUNT, parameters)


async def prune_refusals(session: AsyncSession, *, days: int, batch: int) -> int:
    """Deletes up to `batch` rows that are rolled up, of minutes more than `days` days ago. Returns their number."""
    return len((await session.execute(PRUNE, {"days": days, "batch": batch})).all())
