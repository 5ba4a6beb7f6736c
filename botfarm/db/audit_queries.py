"""The audit: one row for each deed, written in the transaction of the deed, and read together with the leases."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.access import AuditEntry, AuditFilter, Principal, Scope
from botfarm.db.scopes import scope_parameters, within
from botfarm.db.tables import AuditRow
from botfarm.domain import Env

# A deed of no project, or of all envs of one, is outside of every scope that has only some of them.
DEEDS = text(f"""
    SELECT id AS position, at, principal, address, request_id, action, target, target_id, project_id, env, details
    FROM audit AS a
    WHERE id < :before AND {within("a")}
      AND (CAST(:principal AS text) IS NULL OR principal = :principal)
      AND (CAST(:action AS text) IS NULL OR action = :action)
      AND (CAST(:project_id AS uuid) IS NULL OR project_id = :project_id)
      AND (CAST(:target_id AS text) IS NULL OR target_id = :target_id)
      AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
    ORDER BY id DESC LIMIT :limit""")

# Found by the lease's id, or by that of one of its users.
HAND_OUTS = text(f"""
    SELECT fence AS position, acquired_at AS at, principal, address, request_id, operation AS action,
           'lease' AS target, id::text AS target_id, project_id, env,
           jsonb_build_object('user_ids', user_ids, 'owner', owner, 'domain', domain, 'expires_at', expires_at,
                              'ended_at', ended_at, 'ended_by', ended_by, 'outcome', outcome) AS details
    FROM leases AS l
    WHERE fence < :before AND {within("l")}
      AND (CAST(:principal AS text) IS NULL OR principal = :principal)
      AND (CAST(:action AS text) IS NULL OR operation = :action)
      AND (CAST(:project_id AS uuid) IS NULL OR project_id = :project_id)
      AND (CAST(:target_id AS text) IS NULL OR id::text = :target_id OR :target_id = ANY (CAST(user_ids AS text[])))
      AND (CAST(:since AS timestamptz) IS NULL OR acquired_at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR acquired_at < :until)
    ORDER BY fence DESC LIMIT :limit""")

# Only this transaction says the word that the trigger of the table wants to hear.
PRUNE = text("""
    WITH old AS MATERIALIZED (
        SELECT id FROM audit WHERE at < clock_timestamp() - make_interval(days => :days) ORDER BY id LIMIT :batch
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
    env: Env | None = None,
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
class Found:
    entry: AuditEntry
    deed: int | None = None
    """Its id in the table, of a deed."""
    fence: int | None = None
    """Of a hand-out."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far both records were read: of each what comes before it is left."""

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
    rows = await session.execute(DEEDS, _parameters(chosen, scope, before, limit))
    return [Found(_entry(row), deed=row.position) for row in rows]


async def list_hand_outs(
    session: AsyncSession, chosen: AuditFilter, scope: Scope, *, before: int, limit: int
) -> list[Found]:
    rows = await session.execute(HAND_OUTS, _parameters(chosen, scope, before, limit))
    return [Found(_entry(row), fence=row.position) for row in rows]


async def prune_deeds(session: AsyncSession, *, days: int, batch: int) -> int:
    """Deletes deeds of more than `days` days ago, in a transaction of its own; returns how many of this batch."""
    await session.execute(text("SET LOCAL botfarm.retention = 'on'"))
    return len((await session.execute(PRUNE, {"days": days, "batch": batch})).all())


def _parameters(chosen: AuditFilter, scope: Scope, before: int, limit: int) -> dict[str, object]:
    return {**asdict(chosen), **scope_parameters(scope), "before": before, "limit": limit}


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
        env=Env(row.env) if row.env else None,
        details=row.details,
    )
