"""One user: how it stands, who has it, and what became of it."""

from uuid import UUID

from fastapi import Request, Response

from botfarm.domain.access import Role
from botfarm.web.http.dependencies import Caller, Cursor, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.done_words import Did
from botfarm.web.pages.page_routing import LivePageRoute, page_router
from botfarm.web.pages.rendering import render
from botfarm.web.pages.users.user_list_pages import next_change

router = page_router(route_class=LivePageRoute)

ENTRIES = 20
HOUR, DAY = 3_600, 86_400
QUARANTINES = (HOUR, 8 * HOUR, DAY, 7 * DAY)
HOLDS = (HOUR // 4, HOUR, 4 * HOUR, 8 * HOUR, DAY)


@router.get("/users/{user_id:uuid}")
@needs(Role.VIEWER)
async def user_page(
    farm: Farm, caller: Caller, request: Request, user_id: UUID, did: Did | None = None, cursor: Cursor = None
) -> Response:
    user = await farm.users.get(caller.scope, user_id)
    project = await farm.projects.look_up(caller.scope, user.pool.project_id)
    longest_hold = project.policy.max_hold
    return render(
        request,
        "user.html",
        title=user.login,
        is_live=True,
        next_in=next_change([user]),
        did=did,
        user=user,
        project=project,
        history=await farm.history.list(caller.scope, user_id, cursor=cursor, limit=ENTRIES),
        cursor=cursor,
        quarantines=QUARANTINES,
        holds=[*(each for each in HOLDS if each < longest_hold), longest_hold],
    )
