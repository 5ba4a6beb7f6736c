"""The statements that end leases: release, force, reap; and what the end makes of each user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_locks import LEASES_OF_HOLDERS, LOCKED_USERS
from botfarm.db.leasing.lease_rows import LEASE_COLUMNS, lease_from_rows, leases_from_rows
from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLEANED, with_status
from botfarm.domain.access import Scope
from botfarm.domain.leases import BLAMELESS, EndedLease, Lease, Purpose, Reason, Verdict
from botfarm.domain.pools import Domain, Env, Pool

Rest = Literal["cooldown", "lock_delay", "none"]
"""The duration of the project for which a user rests after a lease."""

# `lost` is the outcome of a lease that has expired or was forced: nobody has said how its users are. Without an
# outcome nobody has used the lease, and its users stay as they were.
_BLAMELESS = ", ".join(f"'{reason}'" for reason in sorted(BLAMELESS))
_BROKEN = f"(j.outcome = 'broken' AND coalesce(j.reason NOT IN ({_BLAMELESS}), true))"
_FAILED_CHORE = f"(j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR {_BROKEN}))"
_CHORE_DONE = "(j.purpose = 'chore' AND j.outcome = 'ok')"

_STATUS = f"""
    CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
         WHEN {_CHORE_DONE} THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
         WHEN {_FAILED_CHORE} THEN 'dirty'
         WHEN j.purpose = 'chore' THEN u.status
         WHEN {CLEANED} OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
         ELSE u.status END"""

_HEALTH = f"""
    failures = CASE WHEN j.outcome = 'ok' THEN 0
                    WHEN {_BROKEN} OR (j.outcome = 'lost' AND j.purpose <> 'chore' AND p.count_expired)
                    THEN u.failures + 1 ELSE u.failures END,
    failed_chores = CASE WHEN {_CHORE_DONE} THEN 0
                         WHEN {_FAILED_CHORE} THEN u.failed_chores + 1 ELSE u.failed_chores END,
    health = CASE WHEN {_CHORE_DONE} THEN 'ok'
                  WHEN j.purpose = 'chore' AND {_BROKEN} THEN 'failing'
                  WHEN j.purpose = 'chore' AND j.outcome = 'broken' AND j.reason = '{Reason.ENVIRONMENT}'
                  THEN 'unreachable' ELSE u.health END,
    health_reason = CASE WHEN j.purpose = 'chore' AND {_BROKEN} THEN coalesce(j.reason, '{Reason.OTHER}')
                         WHEN {_CHORE_DONE} THEN NULL ELSE u.health_reason END,
    checked_at = CASE WHEN {_CHORE_DONE} OR (j.purpose = 'chore' AND j.outcome = 'broken'
                           AND j.reason IS DISTINCT FROM '{Reason.RATE_LIMITED}') THEN j.now ELSE u.checked_at END,
    healthy_at = CASE WHEN {_CHORE_DONE} THEN j.now ELSE u.healthy_at END"""

# With its `ok` a keeper says that all that was due is done.
_DONE = f"""
    must_rotate = CASE WHEN {_CHORE_DONE} THEN false
                       WHEN j.purpose <> 'chore' AND j.outcome IS NOT NULL THEN u.must_rotate OR p.rotate_on_release
                       ELSE u.must_rotate END,
    rotated_at = CASE WHEN {_CHORE_DONE} AND 'rotate' = ANY (j.due) AND u.pending_password IS NULL
                      THEN j.now ELSE u.rotated_at END,
    session_expires_at = CASE WHEN {_CHORE_DONE} AND 'session' = ANY (j.due)
                                   AND u.session_expires_at - make_interval(secs => p.session_refresh) <= j.now
                              THEN NULL ELSE u.session_expires_at END"""

_AFTER = f"{with_status(_STATUS, 'j.now')}, {_HEALTH}, {_DONE}"
"""Sets what the end of its lease makes of the user `u` of the project `p`. `j` are the verdicts."""

_OF_CHORE = """
    CASE WHEN live.purpose = 'chore' THEN (
        SELECT lu.due FROM lease_users AS lu WHERE lu.user_id = locked.id AND lu.fence = live.fence) END AS due"""


def _end(wanted: str, live: str, *, said: str) -> TextClause:
    return text(f"""
    WITH wanted AS MATERIALIZED ({wanted}),
    said AS MATERIALIZED ({said}),
    {live},
    l AS (
        UPDATE leases SET ended_at = live.now, ended_by = :ended_by,
               outcome = nullif(wanted.outcome, 'lost'), reason = wanted.reason,
               note = coalesce(wanted.note, leases.note)
        FROM live, wanted WHERE leases.id = live.id AND wanted.id = live.id
        RETURNING leases.*
    ),
    apart AS (
        UPDATE lease_users AS lu SET outcome = said.outcome, reason = said.reason, note = said.note
        FROM said JOIN live ON live.id = said.lease_id
        WHERE lu.user_id = said.user_id AND lu.fence = live.fence
    ),
    j AS MATERIALIZED (
        SELECT locked.id, live.now, live.acquired_at, coalesce(live.purpose, 'test') AS purpose, wanted.rest,
               CASE WHEN said.user_id IS NULL THEN wanted.outcome ELSE said.outcome END AS outcome,
               CASE WHEN said.user_id IS NULL THEN wanted.reason ELSE said.reason END AS reason,
               CASE WHEN said.user_id IS NULL THEN wanted.note ELSE said.note END AS note,
               {_OF_CHORE}
        FROM live JOIN wanted ON wanted.id = live.id JOIN locked ON locked.lease_id = live.id
        LEFT JOIN said ON said.lease_id = live.id AND said.user_id = locked.id
    ),
    u AS (
        UPDATE users AS u SET locktime = NULL, expires_at = NULL,
               available_at = CASE WHEN j.rest = 'none' THEN j.now ELSE greatest(
                   j.now + make_interval(secs => CASE j.rest WHEN 'lock_delay' THEN p.lock_delay ELSE p.cooldown END),
                   j.acquired_at + make_interval(secs => p.login_gap)) END,
               {_AFTER}
        FROM j, projects AS p
        WHERE u.id = j.id AND p.id = u.project_id
        RETURNING u.*, j.due, nullif(j.outcome, 'lost') AS outcome, j.reason, j.note
    )
    SELECT {LEASE_COLUMNS}, u.due, u.outcome AS user_outcome, u.reason AS user_reason, u.note AS user_note
    FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
    ORDER BY l.id, u.id""")


RELEASE = _end(
    """SELECT *
       FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:principals AS text[]), CAST(:outcomes AS text[]),
                   CAST(:reasons AS text[]), CAST(:notes AS text[]), CAST(:rests AS text[]))
            AS w (id, principal, outcome, reason, note, rest)""",
    LEASES_OF_HOLDERS,
    said="""SELECT *
       FROM unnest(CAST(:said_lease_ids AS uuid[]), CAST(:said_user_ids AS uuid[]),
                   CAST(:said_outcomes AS text[]), CAST(:said_reasons AS text[]), CAST(:said_notes AS text[]))
            AS s (lease_id, user_id, outcome, reason, note)""",
)

FORCE_RELEASE = _end(
    """SELECT CAST(:lease_id AS uuid) AS id, 'lost' AS outcome, CAST(NULL AS text) AS reason,
              CAST(:reason AS text) AS note, 'lock_delay' AS rest""",
    f"""
    lease AS MATERIALIZED (
        SELECT * FROM leases AS l WHERE l.id = :lease_id AND {within("l")} FOR UPDATE
    ),
    {LOCKED_USERS},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL
          AND (SELECT count(*) FROM locked WHERE expires_at > clock_timestamp()) > 0
    )""",
    said="""SELECT CAST(NULL AS uuid) AS lease_id, CAST(NULL AS uuid) AS user_id, CAST(NULL AS text) AS outcome,
                   CAST(NULL AS text) AS reason, CAST(NULL AS text) AS note WHERE false""",
)

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
            {_AFTER}
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


@dataclass(frozen=True, slots=True)
class Release:
    lease_id: UUID
    principal: str
    verdict: Verdict
    of_users: Mapping[UUID, Verdict] = field(default_factory=dict)
    """What is said of these users alone."""
    rest: Rest = "cooldown"


async def release(executor: Executor, wanted: Sequence[Release]) -> dict[UUID, Lease]:
    """Ends the live leases of the principals. Returns them by their ids. No lease may be there twice."""
    said = [
        (each.lease_id, user_id, verdict) for each in wanted for user_id, verdict in each.of_users.items()
    ]
    parameters = {
        "lease_ids": [each.lease_id for each in wanted],
        "principals": [each.principal for each in wanted],
        "outcomes": [each.verdict.outcome for each in wanted],
        "reasons": [each.verdict.reason for each in wanted],
        "notes": [each.verdict.note for each in wanted],
        "rests": [each.rest for each in wanted],
        "said_lease_ids": [lease_id for lease_id, _, _ in said],
        "said_user_ids": [user_id for _, user_id, _ in said],
        "said_outcomes": [verdict.outcome for _, _, verdict in said],
        "said_reasons": [verdict.reason for _, _, verdict in said],
        "said_notes": [verdict.note for _, _, verdict in said],
        "ended_by": "released",
    }
    return {lease.id: lease for lease in leases_from_rows(await executor.execute(RELEASE, parameters))}


async def force_release(session: AsyncSession, lease_id: UUID, scope: Scope, *, reason: str) -> Lease | None:
    """Ends the live lease of any holder in the scope. None when there is none."""
    parameters = {
        "lease_id": lease_id,
        "ended_by": "forced",
        "reason": reason,
        **scope_parameters(scope),
    }
    return lease_from_rows(await session.execute(FORCE_RELEASE, parameters))


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
            Pool(row.project_id, Env(row.env), Domain(row.domain)),
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
    return [Pool(row.project_id, Env(row.env), Domain(row.domain)) for row in rows]
