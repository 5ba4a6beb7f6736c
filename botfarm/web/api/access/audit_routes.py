from typing import Annotated
from uuid import UUID

from fastapi import Query

from botfarm.domain.access import Role
from botfarm.domain.audit import AuditEntry, AuditFilter
from botfarm.domain.paging import Page
from botfarm.web.api.access.access_responses import AuditEntryOut
from botfarm.web.api.shared.fields import Moment, SearchText
from botfarm.web.api.shared.response_body import PageOut
from botfarm.web.http.dependencies import Caller, Cursor, Farm, Limit
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("audit")

MaybeMoment = Annotated[Moment | None, Query(description="With its offset: `2026-01-31T12:00:00Z`.")]


@router.get("/audit", response_model=PageOut[AuditEntryOut], responses=raises())
@needs(Role.MANAGER)
async def get_audit(
    farm: Farm,
    caller: Caller,
    limit: Limit,
    principal: SearchText = None,
    action: SearchText = None,
    project_id: UUID | None = None,
    target_id: Annotated[
        SearchText, Query(description="A user's, lease's, project's or token's id, or an operator's name.")
    ] = None,
    since: MaybeMoment = None,
    until: MaybeMoment = None,
    cursor: Cursor = None,
) -> Page[AuditEntry]:
    """Who did what, from where, and when: hand-outs and all other deeds, the newest first."""
    chosen = AuditFilter(principal, action, project_id, target_id, since, until)
    return await farm.audit.list(caller.scope, chosen, cursor=cursor, limit=limit)
