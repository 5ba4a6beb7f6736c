"""The statements that change whether users may be leased: by hand, and by the policy of their project."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLEANED
from botfarm.domain.access import Scope
from botfarm.domain.leases import REJECTED
from botfarm.domain.pools import Pool
from botfarm.domain.users import CLEANING_FAILED, POLICY

# Of a quarantine whose time is over nothing is left to replace. A restored user has no reason.
_IS_REPLACED = """
    chosen.status = u.status AND u.status_reason IS NOT NULL AND (chosen.status_until > c.now) IS NOT FALSE"""


# A leased user stays leased: what its release would make of it gives way to a quarantine and a retirement.
def _change(changes: str, *, only: str) -> TextClause:
    return text(f"""
    WITH chosen AS MATERIALIZED (
        SELECT u.id, u.status, u.status_until FROM users AS u
        WHERE u.id = ANY (CAST(:ids AS uuid[])) AND {within("u")} ORDER BY u.id FOR UPDATE
    ),
    c AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM chosen) > 0)
    UPDATE users AS u SET {changes}
    FROM chosen, c, projects AS p WHERE u.id = chosen.id AND p.id = u.project_id AND {only}
    RETURNING u.id, u.project_id, u.env, u.domain, p.name AS project_name, {_IS_REPLACED} AS is_replaced""")


QUARANTINE = _change(
    """
    status = 'quarantined', status_reason = :reason, status_by = :by, status_until = CAST(:until AS timestamptz),
    status_since = CASE u.status WHEN 'quarantined' THEN u.status_since ELSE c.now END""",
    only="u.status <> 'retired'",
)

_RESTORED = f"""
    CASE WHEN u.pending_password IS NOT NULL OR coalesce(CAST(:clean AS boolean), {CLEANED}) THEN 'dirty'
         ELSE 'active' END"""
RESTORE = _change(
    f"""
    status = {_RESTORED}, status_reason = NULL, status_until = NULL,
    status_since = CASE {_RESTORED} WHEN 'dirty' THEN c.now END,
    status_by = CASE {_RESTORED} WHEN 'dirty' THEN :by END,
    failures = 0, failed_chores = 0, health_reason = NULL,
    health = CASE u.health WHEN 'failing' THEN 'unknown' ELSE u.health END""",
    only="u.status IN ('dirty', 'quarantined')",
)

RETIRE = _change(
    """
    status = 'retired', status_reason = :reason, status_by = :by, status_until = NULL,
    status_since = CASE u.status WHEN 'retired' THEN u.status_since ELSE c.now END""",
    only="true",
)

_REJECTED = ", ".join(f"'{reason}'" for reason in sorted(REJECTED))
# `room` are the users that may still be quarantined in this hour. The caller holds the lock of the pool, so no other
# statement takes the same room. A user beyond it stays, and its next failure is judged again.
BY_POLICY = text(f"""
    WITH chosen AS MATERIALIZED (
        SELECT u.id,
               CASE WHEN u.health = 'failing' AND u.health_reason IN ({_REJECTED}) THEN u.health_reason
                    WHEN p.quarantine_after > 0 AND u.failures >= p.quarantine_after
                    THEN coalesce(judged.reason, 'other')
                    WHEN u.failed_chores >= p.clean_attempts THEN '{CLEANING_FAILED}' END AS reason
        FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS judged (id, reason)
        JOIN users AS u ON u.id = judged.id JOIN projects AS p ON p.id = u.project_id
        WHERE {OF_POOL.format("u")} AND u.status IN ('active', 'dirty')
        ORDER BY u.id FOR UPDATE OF u
    ),
    c AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(reason) FROM chosen) > 0),
    room AS MATERIALIZED (
        SELECT greatest(1, floor(max(p.quarantine_share) * count(*) FILTER (
                   WHERE u.status IN ('active', 'dirty') OR u.quarantined_by_policy_at > c.now - interval '1 hour')))
               - count(*) FILTER (WHERE u.quarantined_by_policy_at > c.now - interval '1 hour') AS users
        FROM users AS u JOIN projects AS p ON p.id = u.project_id, c WHERE {OF_POOL.format("u")}
    ),
    decided AS MATERIALIZED (
        SELECT chosen.id, chosen.reason, row_number() OVER (ORDER BY chosen.id) > room.users AS is_capped
        FROM chosen, room WHERE chosen.reason IS NOT NULL
    ),
    spared AS (
        UPDATE users AS u SET failed_chores = least(u.failed_chores, p.clean_attempts - 1)
        FROM decided, projects AS p WHERE u.id = decided.id AND decided.is_capped AND p.id = u.project_id
    ),
    quarantined AS (
        UPDATE users AS u SET status = 'quarantined', status_reason = decided.reason, status_by = '{POLICY}',
               status_since = c.now, status_until = NULL, quarantined_by_policy_at = c.now
        FROM decided, c WHERE u.id = decided.id AND NOT decided.is_capped
    )
    SELECT id, reason, is_capped FROM decided ORDER BY id""")


@dataclass(frozen=True, slots=True)
class ChangedUser:
    id: UUID
    pool: Pool
    project_name: str
    is_replaced: bool = False
    """True when it was quarantined or retired already and got another reason."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What the policy has decided for a user."""

    user_id: UUID
    reason: str
    is_capped: bool
    """True when the user stays, because too many of its pool have been quarantined within the hour."""


async def quarantine(
    session: AsyncSession,
    ids: Collection[UUID],
    scope: Scope,
    *,
    by: str,
    reason: str,
    until: datetime | None,
) -> list[ChangedUser]:
    """All but retired users. A user that is quarantined already gets the new reason and end."""
    return await _changed(session, QUARANTINE, ids, scope, by=by, reason=reason, until=until)


async def restore(
    session: AsyncSession, ids: Collection[UUID], scope: Scope, *, by: str, clean: bool | None
) -> list[ChangedUser]:
    """Users that are dirty or quarantined: to active, or to dirty with `clean`, by default as the policy says."""
    return await _changed(session, RESTORE, ids, scope, by=by, clean=clean)


async def retire(
    session: AsyncSession, ids: Collection[UUID], scope: Scope, *, by: str, reason: str
) -> list[ChangedUser]:
    return await _changed(session, RETIRE, ids, scope, by=by, reason=reason)


async def quarantine_by_policy(
    session: AsyncSession, pool: Pool, reasons: Mapping[UUID, str | None]
) -> list[Quarantine]:
    """Quarantines those of the users that have failed too often, within the share of the pool and the hour.

    `reasons` are the users with the reason of their last failure. The caller holds the lock of the pool, which it has
    taken before it locked any user.
    """
    parameters = {**pool_parameters(pool), "ids": list(reasons), "reasons": list(reasons.values())}
    rows = await session.execute(BY_POLICY, parameters)
    return [Quarantine(row.id, row.reason, row.is_capped) for row in rows]


async def _changed(
    session: AsyncSession, statement: TextClause, ids: Collection[UUID], scope: Scope, **parameters: object
) -> list[ChangedUser]:
    rows = await session.execute(statement, {"ids": list(ids), **scope_parameters(scope), **parameters})
    return [replace(changed_user(row), is_replaced=row.is_replaced) for row in rows]


def changed_user(row: Row[Any]) -> ChangedUser:
    return ChangedUser(row.id, Pool(row.project_id, row.env, row.domain), row.project_name)
