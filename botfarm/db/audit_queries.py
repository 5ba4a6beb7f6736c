"""The audit: one row for each deed, written in the transaction of the deed, and read together with the leases."""

import json
from collections.abc import Mapping
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.access import Principal
from botfarm.db.tables import AuditRow
from botfarm.domain import Env


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
