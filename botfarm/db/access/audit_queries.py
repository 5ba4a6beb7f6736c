"""The audit: written in the transaction of the action that it records, and read together with the leases.

One row for each action; one for each pool of an import, and two for a user that moves.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, TextClause, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.tables import AuditRow
from botfarm.domain.access import Principal, Scope
from botfarm.domain.audit import AuditEntry, AuditFilter
from botfarm.domain.leases import Lease, LeaseOperation
from botfarm.domain.pools import Pool

# An action of no project, or of all envs of a project, is outside of every scope that has only some of them.
_DEEDS = f"""
    SELECT id AS position, at, principal, address, request_id, action, target, target_id,
           project_id, env, details
    FROM audit AS a
    WHERE id < :before AND {within("a")}{{conditions}}
    ORDER BY id DESC LIMIT :limit"""
_DEED_CONDITIONS = {
    "principal": "principal = :principal",
    "action": "action = :action",
    "project_id": "project_id = :project_id",
    "target_id": "target_id = :target_id",
    "since": "at >= :since",
    "until": "at < :until",
}

# A target is the lease's id or the id of one of its users.
_HAND_OUTS = f"""
    SELECT fence AS position, acquired_at AS at, principal, address, request_id, operation AS action,
           'lease' AS target, id::text AS target_id, project_id, env,
           jsonb_build_object('user_ids', user_ids, 'owner', owner, 'domain', domain,
                              'expires_at', expires_at, 'ended_at', ended_at,
                              'ended_by', ended_by, 'outcome', outcome) AS details
    FROM leases AS l
    WHERE fence < :before AND {within("l")}{{conditions}}
    ORDER BY fence DESC LIMIT :limit"""
_HAND_OUT_CONDITIONS = {
    "principal": "principal = :principal",
    "action": "operation = :action",
    "project_id": "project_id = :project_id",
    "target_id": """(id = :target_id OR fence = ANY (ARRAY(
        SELECT fence FROM lease_users WHERE user_id = CAST(:target_id AS uuid) AND fence < :before
        ORDER BY fence DESC LIMIT :limit)))""",
    "since": "acquired_at >= :since",
    "until": "acquired_at < :until",
}

RECORD_ALL = text("""
    INSERT INTO audit (principal, address, request_id, action, target, target_id, project_id, env, details)
    SELECT CAST(:principal AS text), CAST(:address AS text), CAST(:request_id AS text),
           action, target, target_id, project_id, env, CAST(details AS jsonb)
    FROM unnest(CAST(:actions AS text[]), CAST(:targets AS text[]), CAST(:target_ids AS text[]),
                CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:details AS text[]))
         WITH ORDINALITY AS done (action, target, target_id, project_id, env, details, number)
    ORDER BY number""")

# The table's trigger allows this deletion only in a transaction that sets botfarm.retention.
PRUNE = text("""
    WITH old AS MATERIALIZED (
        SELECT id FROM audit
        WHERE at < clock_timestamp() - make_interval(days => :days)
        ORDER BY id LIMIT :batch
    )
    DELETE FROM audit USING old WHERE audit.id = old.id
    RETURNING 1""")


async def record(
    session: AsyncSession,
    principal: Principal,
    action: str,
    *,
    target: str,
    target_id: object,
    project_id: UUID | None = None,
    env: str | None = None,
    details: Mapping[str, object] | None = None,
) -> None:
    """Details are names and numbers that say what changed, as JSON; never a credential."""
    statement = insert(AuditRow).values(
        principal=principal.name,
        address=principal.address,
        request_id=principal.request_id,
        action=action,
        target=target,
        target_id=str(target_id),
        project_id=project_id,
        env=env,
        details=json.loads(json.dumps(dict(details or {}), default=str)),
    )
    await session.execute(statement)


@dataclass(frozen=True, slots=True)
class Deed:
    """An action that is recorded."""

    action: str
    target: str
    target_id: object
    project_id: UUID | None = None
    env: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


async def record_all(session: AsyncSession, principal: Principal, deeds: Sequence[Deed]) -> None:
    """Records many actions with one statement."""
    of_the_caller = {
        "principal": principal.name,
        "address": principal.address,
        "request_id": principal.request_id,
    }
    columns = {
        "actions": [deed.action for deed in deeds],
        "targets": [deed.target for deed in deeds],
        "target_ids": [str(deed.target_id) for deed in deeds],
        "project_ids": [deed.project_id for deed in deeds],
        "envs": [deed.env for deed in deeds],
        "details": [json.dumps(dict(deed.details), default=str) for deed in deeds],
    }
    await session.execute(RECORD_ALL, {**of_the_caller, **columns})


async def record_users(
    session: AsyncSession,
    principal: Principal,
    action: str,
    entries: Collection[tuple[UUID, Pool, Mapping[str, object]]],
) -> None:
    """As `record_all`, an entry for each of many users, with its pool and details."""
    deeds = [
        Deed(action, "user", user_id, pool.project_id, pool.env, details)
        for user_id, pool, details in entries
    ]
    await record_all(session, principal, deeds)


async def record_of_lease(
    session: AsyncSession,
    principal: Principal,
    action: str,
    lease: Lease,
    details: Mapping[str, object] | None = None,
) -> None:
    """As `record`, with the lease as the target, in its project and env."""
    await record(
        session,
        principal,
        action,
        target="lease",
        target_id=lease.id,
        project_id=lease.pool.project_id,
        env=lease.pool.env,
        details=details,
    )


@dataclass(frozen=True, slots=True)
class Found:
    entry: AuditEntry
    deed: int | None = None
    """The id in the table `audit`, else None."""
    fence: int | None = None
    """The fence of a lease, else None."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far both tables were read. Rows with lower numbers are left."""

    deed: int
    fence: int

    def after(self, found: Found) -> "Position":
        return Position(
            self.deed if found.deed is None else found.deed,
            self.fence if found.fence is None else found.fence,
        )


async def list_deeds(
    session: AsyncSession, chosen: AuditFilter, scope: Scope, *, before: int, limit: int
) -> list[Found]:
    statement, parameters = _chosen(_DEEDS, _DEED_CONDITIONS, asdict(chosen))
    rows = await session.execute(
        statement, {**parameters, **scope_parameters(scope), "before": before, "limit": limit}
    )
    return [Found(_entry(row), deed=row.position) for row in rows]


async def list_hand_outs(
    session: AsyncSession, chosen: AuditFilter, scope: Scope, *, before: int, limit: int
) -> list[Found]:
    """Leases as audit entries. Asks nothing when the target is no UUID, or the action makes no lease."""
    target_id = _uuid(chosen.target_id)
    if (chosen.target_id is not None and target_id is None) or chosen.action not in {None, *LeaseOperation}:
        return []
    statement, parameters = _chosen(
        _HAND_OUTS, _HAND_OUT_CONDITIONS, {**asdict(chosen), "target_id": target_id}
    )
    rows = await session.execute(
        statement, {**parameters, **scope_parameters(scope), "before": before, "limit": limit}
    )
    return [Found(_entry(row), fence=row.position) for row in rows]


async def prune_deeds(session: AsyncSession, *, days: int, batch: int) -> int:
    """Deletes up to `batch` entries older than `days` days, in a transaction of its own.

    Returns their number.
    """
    await session.execute(text("SET LOCAL botfarm.retention = 'on'"))
    return len((await session.execute(PRUNE, {"days": days, "batch": batch})).all())


def _chosen(
    statement: str, conditions: Mapping[str, str], values: Mapping[str, object]
) -> tuple[TextClause, dict[str, object]]:
    """Adds only conditions with a value, because "null or equal" would keep the planner from its indexes."""
    given = {name: value for name, value in values.items() if value is not None}
    return text(statement.format(conditions="".join(f" AND {conditions[name]}" for name in given))), given


def _uuid(text_or_none: str | None) -> UUID | None:
    try:
        return UUID(text_or_none or "")
    except ValueError:
        return None


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        at=row.at,
        principal=row.principal,
        address=row.address,
        request_id=row.request_id,
        action=row.action,
        target=row.target,
        target_id=row.target_id,
        project_id=row.project_id,
        env=row.env,
        details=row.details,
    )
