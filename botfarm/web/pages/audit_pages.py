from typing import Annotated

from fastapi import Query, Request, Response

from botfarm.domain.access import Role
from botfarm.domain.audit import AuditFilter
from botfarm.web.api.shared.fields import Moment, SearchText
from botfarm.web.http.dependencies import Caller, Cursor, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import PoolFilter
from botfarm.web.pages.page_routing import page_router
from botfarm.web.pages.rendering import render

router = page_router()

ENTRIES = 100


@router.get("/audit")
@needs(Role.MANAGER)
async def audit_page(
    farm: Farm,
    caller: Caller,
    request: Request,
    pool: PoolFilter,
    principal: SearchText = None,
    action: SearchText = None,
    target_id: SearchText = None,
    since: Annotated[Moment | None, Query()] = None,
    until: Annotated[Moment | None, Query()] = None,
    cursor: Cursor = None,
) -> Response:
    """Who did what, from where, and when; the newest first."""
    chosen = AuditFilter(principal, action, pool.project_id, target_id, since, until)
    page = await farm.audit.list(caller.scope, chosen, cursor=cursor, limit=ENTRIES)
    further = {
        "principal": principal,
        "action": action,
        "target_id": target_id,
        "since": since,
        "until": until,
    }
    return render(
        request,
        "audit.html",
        title="Audit",
        pool=pool,
        chosen=chosen,
        page=page,
        cursor=cursor,
        address=pool.address("/ui/audit", **further),
    )
