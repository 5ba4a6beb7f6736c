"""The list of users: search, filters in the address, and the form of a change for many of them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from fastapi import Request, Response

from botfarm.domain.access import Role
from botfarm.domain.health import Health
from botfarm.domain.users import BulkAction, User, UserState
from botfarm.web.http.dependencies import Caller, Cursor, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import LivePageRoute, page_router
from botfarm.web.pages.rendering import render
from botfarm.web.pages.users.chosen_users import UsersFilter

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
        next_in=next_change(page.items),
        chosen=chosen,
        page=page,
        is_first=cursor is None,
        states=UserState,
        healths=Health,
        actions=BulkAction,
    )


def next_change(users: Iterable[User]) -> float | None:
    """Seconds until a lease, a rest or a quarantine of one of the users ends by itself; null when none will."""
    return min(_changes(users), default=None)


def _changes(users: Iterable[User]) -> Iterator[float]:
    now = datetime.now(UTC)
    for user in users:
        if user.busy_for is not None:
            yield user.busy_for
        if user.status_until is not None:
            yield max(0.0, (user.status_until - now).total_seconds())
