"""The statements by which a holder releases its lease, and a manager forces one to end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_locks import leases_of_holders, locked_users
from botfarm.db.leasing.lease_rows import (
    DUE_OF_CHORE,
    LEASE_COLUMNS,
    USER_COLUMNS,
    lease_from_rows,
    leases_from_rows,
)
from botfarm.db.leasing.user_after_lease import AFTER
from botfarm.db.postgres.driver import Executor
from botfarm.db.postgres.listener import SAY_FREED
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLEANED
from botfarm.domain.access import Scope
from botfarm.domain.leases import Lease, Verdict

Rest = Literal["cooldown", "lock_delay", "none"]
"""The duration of the project for which a user rests after a lease."""

_AVAILABLE_AT = """
    CASE WHEN {of}.rest = 'none' THEN {live}.now ELSE greatest(
        {live}.now + make_interval(secs => CASE {of}.rest WHEN 'lock_delay' THEN p.lock_delay ELSE p.cooldown END),
        {live}.acquired_at + make_interval(secs => p.login_gap)) END"""

_CLOSED = """
    l AS (
        UPDATE leases SET ended_at = live.now, ended_by = :ended_by,
               outcome = nullif(wanted.outcome, 'lost'), reason = wanted.reason,
               note = coalesce(wanted.note, leases.note)
        FROM live, wanted WHERE leases.id = live.id AND wanted.id = live.id
        RETURNING leases.*
    )"""

# The usual release, of a test or a hold and with a verdict that quarantines nobody, has a statement with only what it
# can change, because PostgreSQL prepares every expression of a statement at each execution.
_DIRTIED = f"(u.status = 'active' AND wanted.outcome IS NOT NULL AND {CLEANED})"
RELEASE = text(f"""
    WITH wanted AS MATERIALIZED (
        SELECT *
        FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:principals AS text[]), CAST(:outcomes AS text[]),
                    CAST(:reasons AS text[]), CAST(:notes AS text[]), CAST(:rests AS text[]))
             AS w (id, principal, outcome, reason, note, rest)
    ),
    {leases_of_holders("purpose IS DISTINCT FROM 'chore'")},
    {_CLOSED},
    u AS (
        UPDATE users AS u SET locktime = NULL, expires_at = NULL,
               available_at = {_AVAILABLE_AT.format(of="wanted", live="live")},
               status = CASE WHEN {_DIRTIED} THEN 'dirty' ELSE u.status END,
               status_since = CASE WHEN {_DIRTIED} THEN live.now ELSE u.status_since END,
               status_by = CASE WHEN {_DIRTIED} THEN 'policy' ELSE u.status_by END,
               failures = CASE wanted.outcome WHEN 'ok' THEN 0 ELSE u.failures END,
               must_rotate = u.must_rotate OR (wanted.outcome IS NOT NULL AND p.rotate_on_release)
        FROM live, wanted, locked, projects AS p
        WHERE wanted.id = live.id AND locked.lease_id = live.id AND u.id = locked.id AND p.id = u.project_id
        RETURNING {USER_COLUMNS}
    ),
    notified AS MATERIALIZED (
        {SAY_FREED.format(freed="(SELECT DISTINCT project_id FROM live)")} AND :notifies
    )
    SELECT {LEASE_COLUMNS}, l.project_id IN (SELECT id FROM notified) AS is_notified
    FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
    ORDER BY l.id, u.id""")


def _end(wanted: str, live: str, *, said: str) -> TextClause:
    return text(f"""
    WITH wanted AS MATERIALIZED ({wanted}),
    said AS MATERIALIZED ({said}),
    {live},
    {_CLOSED},
    apart AS (
        UPDATE lease_users AS lu SET outcome = said.outcome, reason = said.reason, note = said.note
        FROM said, live
        WHERE lu.user_id = said.user_id AND lu.fence = live.fence
    ),
    j AS MATERIALIZED (
        SELECT locked.id, live.now, live.acquired_at, coalesce(live.purpose, 'test') AS purpose, wanted.rest,
               CASE WHEN said.user_id IS NULL THEN wanted.outcome ELSE said.outcome END AS outcome,
               CASE WHEN said.user_id IS NULL THEN wanted.reason ELSE said.reason END AS reason,
               CASE WHEN said.user_id IS NULL THEN wanted.note ELSE said.note END AS note,
               {DUE_OF_CHORE.format(lease="live", user="locked")}
        FROM live JOIN wanted ON wanted.id = live.id JOIN locked ON locked.lease_id = live.id
        LEFT JOIN said ON said.user_id = locked.id
    ),
    u AS (
        UPDATE users AS u SET locktime = NULL, expires_at = NULL,
               available_at = {_AVAILABLE_AT.format(of="j", live="j")},
               {AFTER}
        FROM j, projects AS p
        WHERE u.id = j.id AND p.id = u.project_id
        RETURNING {USER_COLUMNS}, j.due, nullif(j.outcome, 'lost') AS outcome, j.reason, j.note
    )
    SELECT {LEASE_COLUMNS}, u.due, u.outcome AS user_outcome, u.reason AS user_reason, u.note AS user_note
    FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
    ORDER BY l.id, u.id""")


RELEASE_JUDGED = _end(
    """SELECT CAST(:lease_id AS uuid) AS id, CAST(:principal AS text) AS principal,
              CAST(:outcome AS text) AS outcome, CAST(:reason AS text) AS reason, CAST(:note AS text) AS note,
              CAST(:rest AS text) AS rest""",
    leases_of_holders(),
    said="""SELECT *
       FROM unnest(CAST(:said_user_ids AS uuid[]), CAST(:said_outcomes AS text[]),
                   CAST(:said_reasons AS text[]), CAST(:said_notes AS text[]))
            AS s (user_id, outcome, reason, note)""",
)

FORCE_RELEASE = _end(
    """SELECT CAST(:lease_id AS uuid) AS id, 'lost' AS outcome, CAST(NULL AS text) AS reason,
              CAST(:reason AS text) AS note, 'lock_delay' AS rest""",
    f"""
    lease AS MATERIALIZED (
        SELECT * FROM leases AS l WHERE l.id = :lease_id AND {within("l")} FOR UPDATE
    ),
    {locked_users()},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL
          AND (SELECT count(*) FROM locked WHERE expires_at > clock_timestamp()) > 0
    )""",
    said="""SELECT CAST(NULL AS uuid) AS user_id, CAST(NULL AS text) AS outcome,
                   CAST(NULL AS text) AS reason, CAST(NULL AS text) AS note WHERE false""",
)


@dataclass(frozen=True, slots=True)
class Release:
    lease_id: UUID
    principal: str
    verdict: Verdict
    of_users: Mapping[UUID, Verdict] = field(default_factory=dict)
    """Verdicts on single users, by their ids; `verdict` is for the others."""
    rest: Rest = "cooldown"


async def release(
    executor: Executor, wanted: Sequence[Release], *, notifies: bool = False
) -> tuple[dict[UUID, Lease], set[UUID]]:
    """Ends the live leases of the principals, of tests and holds. Returns them by their ids.

    No lease may be there twice, and no release may lead to a quarantine or say anything of a single user.
    With `notifies`, the commit wakes the requests that wait in the projects of the leases, where the statement sees
    some. Returns these projects, too.
    """
    parameters = {
        "lease_ids": [each.lease_id for each in wanted],
        "principals": [each.principal for each in wanted],
        "outcomes": [each.verdict.outcome for each in wanted],
        "reasons": [each.verdict.reason for each in wanted],
        "notes": [each.verdict.note for each in wanted],
        "rests": [each.rest for each in wanted],
        "ended_by": "released",
        "notifies": notifies,
    }
    rows = list(await executor.execute(RELEASE, parameters))
    leases = {lease.id: lease for lease in leases_from_rows(rows)}
    return leases, {row.project_id for row in rows if row.is_notified}


async def release_judged(session: AsyncSession, wanted: Release) -> Lease | None:
    """Ends a live lease of any purpose with any verdicts. None when it is not live, or not of the principal."""
    said = wanted.of_users
    parameters = {
        "lease_id": wanted.lease_id,
        "principal": wanted.principal,
        "outcome": wanted.verdict.outcome,
        "reason": wanted.verdict.reason,
        "note": wanted.verdict.note,
        "rest": wanted.rest,
        "said_user_ids": list(said),
        "said_outcomes": [verdict.outcome for verdict in said.values()],
        "said_reasons": [verdict.reason for verdict in said.values()],
        "said_notes": [verdict.note for verdict in said.values()],
        "ended_by": "released",
    }
    return lease_from_rows(await session.execute(RELEASE_JUDGED, parameters))


async def force_release(session: AsyncSession, lease_id: UUID, scope: Scope, *, reason: str) -> Lease | None:
    """Ends the live lease of any holder in the scope. None when there is none."""
    parameters = {
        "lease_id": lease_id,
        "ended_by": "forced",
        "reason": reason,
        **scope_parameters(scope),
    }
    return lease_from_rows(await session.execute(FORCE_RELEASE, parameters))
