"""How users and holders used leases since some moment, from the leases themselves.

Fences rise with time, so the leases since then are found by the fence that the rollups keep of each hour.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Scope
from botfarm.domain.leases import BLAMELESS, Reason
from botfarm.domain.pools import Pool
from botfarm.domain.usage import HolderKind, HolderUse, PoolStatsFilter, UserOrder

CLOCK = text("SELECT clock_timestamp()")
START = text(f"""
    SELECT coalesce((SELECT first_fence FROM rollup_hours WHERE first_fence IS NOT NULL AND hour <= :since
                     ORDER BY hour DESC LIMIT 1), 0) AS first_fence,
           (SELECT coalesce(sum(granted), 0)::bigint FROM rollups AS r
            WHERE hour >= :since AND {within("r")}) AS leases""")

_BLAMELESS = ", ".join(f"'{reason}'" for reason in sorted(BLAMELESS))
_SINCE = f"""
    leases AS l
    WHERE l.fence >= :first_fence AND l.fence < 9223372036854775807
      AND l.acquired_at >= :since AND {within("l")}"""
"""With two bounds, because for one the planner may read the whole table."""
_HELD_FOR = """
    date_part('epoch', greatest(least(coalesce(l.ended_at, l.expires_at), clock_timestamp()), l.acquired_at)
                       - l.acquired_at)"""
_IS_EXPIRED = "coalesce(l.ended_by = 'expired', l.expires_at <= clock_timestamp())"

# Chores have something due. The newest use before is found by the key of lease_users.
_LAST_USED = """(
    SELECT l.acquired_at FROM lease_users AS lu JOIN leases AS l ON l.fence = lu.fence
    WHERE lu.user_id = {0}.id AND lu.due IS NULL AND coalesce(l.purpose, 'test') = 'test'
    ORDER BY lu.fence DESC LIMIT 1)"""

_ORDERS = {
    UserOrder.FAILURES: "used.failures DESC NULLS LAST, used.uses DESC",
    UserOrder.USES: "used.uses DESC NULLS LAST",
    UserOrder.BUSY: "used.busy_seconds DESC NULLS LAST",
    UserOrder.IDLE: f"coalesce(used.last_used, {_LAST_USED.format('u')}) NULLS FIRST",
}


def _users(order: str) -> TextClause:
    return text(f"""
    WITH l AS MATERIALIZED (
        SELECT l.fence, l.acquired_at, l.user_ids, l.outcome, l.reason, {_HELD_FOR} AS held_for
        FROM {_SINCE} AND coalesce(l.purpose, 'test') = 'test'
    ),
    each AS (
        SELECT of_lease.user_id, l.fence, l.acquired_at, l.held_for,
               coalesce(lu.outcome, l.outcome) AS outcome,
               CASE WHEN lu.outcome IS NULL THEN l.reason ELSE lu.reason END AS reason
        FROM l CROSS JOIN unnest(l.user_ids) AS of_lease (user_id)
        LEFT JOIN LATERAL (
            SELECT * FROM lease_users WHERE lease_users.user_id = of_lease.user_id AND lease_users.fence = l.fence
            OFFSET 0
        ) AS lu ON true
    ),
    used AS MATERIALIZED (
        SELECT user_id, count(*) AS uses, sum(held_for) AS busy_seconds, max(acquired_at) AS last_used,
               count(*) FILTER (WHERE has_failed) AS failures,
               (array_agg(coalesce(reason, 'other') ORDER BY fence DESC) FILTER (WHERE has_failed))[1] AS last_reason
        FROM each CROSS JOIN LATERAL (
            SELECT outcome = 'broken' AND coalesce(reason NOT IN ({_BLAMELESS}), true) AS has_failed) AS judged
        GROUP BY user_id
    ),
    chosen AS MATERIALIZED (
        SELECT u.id, u.login, u.project_id, u.env, u.domain, u.status, u.status_since, u.status_until,
               coalesce(used.uses, 0) AS uses, coalesce(used.failures, 0) AS failures, used.last_reason,
               coalesce(used.busy_seconds, 0) AS busy_seconds, used.last_used,
               row_number() OVER (ORDER BY {order}, u.id) AS place
        FROM users AS u LEFT JOIN used ON used.user_id = u.id
        WHERE u.status <> 'retired' AND {within("u")}
          AND (u.project_id = CAST(:project_id AS uuid) OR CAST(:project_id AS uuid) IS NULL)
          AND (u.env = CAST(:env AS text) OR CAST(:env AS text) IS NULL)
          AND (u.domain = CAST(:domain AS text) OR CAST(:domain AS text) IS NULL)
        ORDER BY place LIMIT :limit
    )
    SELECT chosen.*, coalesce(chosen.last_used, {_LAST_USED.format("chosen")}) AS used_at
    FROM chosen ORDER BY place""")


USERS = {order: _users(columns) for order, columns in _ORDERS.items()}

QUARANTINES = text("""
    SELECT target_id, at, action, details ->> 'until' AS until FROM audit
    WHERE target_id = ANY (CAST(:ids AS text[])) AND action IN ('quarantine_user', 'restore_user', 'retire_user')
    ORDER BY target_id, id""")

_HOLDERS = {
    HolderKind.PRINCIPAL: "l.principal",
    HolderKind.OWNER: "l.owner",
    HolderKind.JOB: "nullif(concat_ws(' ', l.metadata ->> 'pipeline', l.metadata ->> 'job'), '')",
}


def _holders(holder: str) -> TextClause:
    return text(f"""
    SELECT {holder} AS holder, sum({_HELD_FOR} * cardinality(l.user_ids)) AS account_seconds, count(*) AS leases,
           count(*) FILTER (WHERE {_IS_EXPIRED}) AS expired_leases
    FROM {_SINCE} AND coalesce(l.purpose, 'test') <> 'chore'
      AND (l.project_id = CAST(:project_id AS uuid) OR CAST(:project_id AS uuid) IS NULL)
    GROUP BY 1 ORDER BY account_seconds DESC, leases DESC, holder LIMIT :limit""")


HOLDERS = {kind: _holders(expression) for kind, expression in _HOLDERS.items()}


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins."""

    first_fence: int
    """Leases with lower fences began before."""
    leases: int
    """Of tests, since then, as far as they are rolled up."""


@dataclass(frozen=True, slots=True)
class FoundUser:
    """A user without the time for which it was quarantined."""

    id: UUID
    login: str
    pool: Pool
    status: str
    status_since: datetime | None
    status_until: datetime | None
    uses: int
    failures: int
    last_reason: Reason | None
    busy_seconds: float
    last_used: datetime | None


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """A quarantine, or the end of one."""

    at: datetime
    action: str
    until: datetime | None = None
    """Of a quarantine that ends by itself."""


async def clock(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(CLOCK)).scalar_one()
    return now


async def start(session: AsyncSession, scope: Scope, since: datetime) -> Start:
    row = (await session.execute(START, {"since": since, **scope_parameters(scope)})).one()
    return Start(row.first_fence, row.leases)


async def list_users(
    session: AsyncSession,
    scope: Scope,
    chosen: PoolStatsFilter,
    *,
    since: datetime,
    first_fence: int,
    order: UserOrder,
    limit: int,
) -> list[FoundUser]:
    """The first users by this order, without retired ones."""
    parameters = {
        "project_id": chosen.project_id,
        "env": chosen.env,
        "domain": chosen.domain,
        "since": since,
        "first_fence": first_fence,
        "limit": limit,
        **scope_parameters(scope),
    }
    return [_user(row) for row in await session.execute(USERS[order], parameters)]


async def quarantines(session: AsyncSession, ids: Collection[UUID]) -> dict[UUID, list[StatusEvent]]:
    """The changes of the status of these users, from the audit, the oldest first."""
    found: dict[UUID, list[StatusEvent]] = {}
    for row in await session.execute(QUARANTINES, {"ids": [str(each) for each in ids]}):
        until = datetime.fromisoformat(row.until) if row.until else None
        found.setdefault(UUID(row.target_id), []).append(StatusEvent(row.at, row.action, until))
    return found


async def list_holders(
    session: AsyncSession,
    scope: Scope,
    *,
    kind: HolderKind,
    project_id: UUID | None,
    since: datetime,
    first_fence: int,
    limit: int,
) -> Sequence[HolderUse]:
    """The holders with the longest holds, for tests and by hand."""
    parameters = {
        "project_id": project_id,
        "since": since,
        "first_fence": first_fence,
        "limit": limit,
        **scope_parameters(scope),
    }
    return [
        HolderUse(row.holder, row.account_seconds, row.leases, row.expired_leases)
        for row in await session.execute(HOLDERS[kind], parameters)
    ]


def _user(row: Row[Any]) -> FoundUser:
    return FoundUser(
        id=row.id,
        login=row.login,
        pool=Pool(row.project_id, row.env, row.domain),
        status=row.status,
        status_since=row.status_since,
        status_until=row.status_until,
        uses=row.uses,
        failures=row.failures,
        last_reason=Reason(row.last_reason) if row.last_reason else None,
        busy_seconds=row.busy_seconds,
        last_used=row.used_at,
    )
