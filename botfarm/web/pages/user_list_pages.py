"""The list of users: search, filters in the address, and the form of a change for many of them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from fastapi import Request, Response

from botfarm.domain.access import Role
from botfarm.domain.health import Health
from botfarm.domain.users import BulkAction, User, UserState
from botfarm.web.http.dependencies import Caller, Cursor, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_users import UsersFilter
from botfarm.web.pages.page_routing import LivePageRoute, page_router
from botfarm.web.pages.rendering import render

USERS_OF_A_PAGE = 100

router = page_router(route_class=LivePageRoute)


@router.get("/users")
@needs(Role.VIEWER)
async def users_page(
    farm: Farm, caller: Caller, request: Request, chosen: UsersFilter, cursor: Cursor = None
) -> Response:
    page = await farm.users.list(caller.scope, chosen.filter, cursor=cursor, limit=USERS_OF_A_PAGE)
    return render(
        request,
        "users.html",
        title="Users",
        is_live=True,
        next_in=min(_changes_by_time(page.items), default=None),
        chosen=chosen,
        page=page,
        is_first=cursor is None,
        states=UserState,
        healths=Health,
        actions=BulkAction,
    )


def _changes_by_time(users: Iterable[User]) -> Iterator[float]:
    """Seconds until a lease, a rest or a quarantine of one of the users ends by itself."""
    now = datetime.now(UTC)
    for user in users:
        if user.busy_for is not None:
            yield user.busy_for
        if user.status_until is not None:
            yield max(0.0, (user.status_until - now).total_seconds())
