"""The statements that close leases which have expired."""

from datetime import datetime

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.user_after_lease import AFTER
from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.domain.leases import EndedLease, Purpose
from botfarm.domain.pools import Pool

# The end of these may lead to a quarantine, which is decided under the lock of the pool.
_IS_JUDGED = """(coalesce(leases.purpose = 'chore', false)
    OR EXISTS (SELECT FROM projects WHERE projects.id = leases.project_id AND projects.count_expired))"""
_HAS_EXPIRED = """leases.ended_at IS NULL
          AND leases.expires_at <= (SELECT least(clock_timestamp(), CAST(:latest AS timestamptz)))"""


# Users are cleared only where this lease is still their last one, because an acquire may have taken them
# since it expired. When a step of the clock ended the lease, its holder may go on until the lease would have
# ended without the step. The users rest until then, but at most for as long as a new lease of that TTL.
def _reap(which: str) -> TextClause:
    return text(f"""
    WITH lease AS MATERIALIZED (
        SELECT id, fence, user_ids, project_id, env, domain, purpose, acquired_at, expires_at, ttl_seconds
        FROM leases
        WHERE {_HAS_EXPIRED} AND {which}
        ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ),
    locked AS MATERIALIZED (
        SELECT users.id, lease.ttl_seconds, coalesce(lease.purpose, 'test') AS purpose
        FROM lease, unnest(lease.user_ids) AS of_lease (id), users
        WHERE users.id = of_lease.id AND users.lease_id = lease.id
        ORDER BY users.id FOR UPDATE OF users
    ),
    closed AS (
        UPDATE leases SET ended_at = leases.expires_at, ended_by = 'expired'
        FROM lease WHERE leases.id = lease.id
    ),
    j AS MATERIALIZED (
        SELECT locked.*, clock_timestamp() AS now, 'lost' AS outcome, CAST(NULL AS text) AS reason,
               CAST(NULL AS text[]) AS due
        FROM locked
    ),
    cleared AS (
        UPDATE users AS u SET locktime = NULL, expires_at = NULL, available_at = least(
            u.available_at + make_interval(secs => CAST(:step AS float8)),
            greatest(u.available_at, j.now + make_interval(secs => j.ttl_seconds + p.lock_delay))),
            {AFTER}
        FROM j, projects AS p WHERE u.id = j.id AND p.id = u.project_id
    )
    SELECT lease.id, lease.project_id, lease.env, lease.domain, lease.user_ids,
           coalesce(lease.purpose, 'test') AS purpose,
           coalesce(p.name, lease.project_id::text) AS project_name,
           extract(epoch FROM lease.expires_at - lease.acquired_at)::float8 AS held_for
    FROM lease LEFT JOIN projects AS p ON p.id = lease.project_id""")


REAP = _reap(f"NOT {_IS_JUDGED}")
REAP_JUDGED = _reap(f"{_IS_JUDGED} AND {OF_POOL.format('leases')}")

JUDGED_POOLS = text(f"""
    SELECT DISTINCT project_id, env, domain FROM leases WHERE {_HAS_EXPIRED} AND {_IS_JUDGED}""")


async def reap(
    session: AsyncSession,
    *,
    batch: int,
    latest: datetime | None,
    step: float = 0,
    judged_of: Pool | None = None,
) -> list[EndedLease]:
    """Closes up to `batch` leases that have expired by `latest`, the oldest first.

    Skips leases that are locked. With `judged_of`, those of this pool whose end may lead to a quarantine, else all
    others. `step`: the seconds by which a step of the clock made them expire early, else 0.
    """
    parameters: dict[str, object] = {"batch": batch, "latest": latest, "step": step}
    statement = REAP
    if judged_of:
        statement, parameters = REAP_JUDGED, {**parameters, **pool_parameters(judged_of)}
    return [
        EndedLease(
            Pool(row.project_id, row.env, row.domain),
            row.project_name,
            row.held_for,
            row.id,
            Purpose(row.purpose),
            tuple(row.user_ids),
        )
        for row in await session.execute(statement, parameters)
    ]


async def pools_to_judge(session: AsyncSession, *, latest: datetime | None) -> list[Pool]:
    """The pools that have expired leases whose end may lead to a quarantine."""
    rows = await session.execute(JUDGED_POOLS, {"latest": latest})
    return [Pool(row.project_id, row.env, row.domain) for row in rows]
