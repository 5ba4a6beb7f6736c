"""Leases, live and ended: the list, one of them, and the end of somebody else's."""

from typing import Annotated
from uuid import UUID

from fastapi import Form, Request, Response

from botfarm.domain.access import Principal, Role
from botfarm.domain.leases import EndedBy, Lease, LeaseFilter, LeaseState, Purpose
from botfarm.domain.projects import id_or_name
from botfarm.domain.users import UserFilter
from botfarm.errors import ChangedMeanwhileError, FieldError, InvalidRequestError, NoSuchUserError
from botfarm.runtime.services import Services
from botfarm.web.api.shared.fields import Note, SearchText
from botfarm.web.http.dependencies import Caller, Cursor, Farm
from botfarm.web.http.error_responses import problem_of
from botfarm.web.http.roles import needs
from botfarm.web.pages.chosen_pool import ChosenPool, PoolFilter
from botfarm.web.pages.done_words import Did
from botfarm.web.pages.page_routing import LivePageRoute, page_router, see
from botfarm.web.pages.rendering import render

router = page_router(route_class=LivePageRoute)

LEASES = 50
ReturnTo = Annotated[UUID | None, Form()]
"""The user whose page has the form; null: the page of the lease."""


@router.get("/leases")
@needs(Role.VIEWER)
async def leases_page(
    farm: Farm,
    caller: Caller,
    request: Request,
    pool: PoolFilter,
    state: LeaseState | None = None,
    purpose: Purpose | None = None,
    user: SearchText = None,
    owner: SearchText = None,
    principal: SearchText = None,
    cursor: Cursor = None,
) -> Response:
    user_id = None if user is None else await _user_id(farm, caller, pool, user)
    chosen = LeaseFilter(state, pool.project_id, pool.env, pool.domain, user_id, owner, principal, purpose)
    page = await farm.leases.list(caller.scope, chosen, cursor=cursor, limit=LEASES)
    further = {"state": state, "purpose": purpose, "user": user, "owner": owner, "principal": principal}
    return render(
        request,
        "leases.html",
        title="Leases",
        is_live=True,
        next_in=min((each.expires_in for each in page.items if each.is_live), default=None),
        pool=pool,
        chosen=chosen,
        user=user,
        page=page,
        cursor=cursor,
        address=pool.address("/ui/leases", **further),
    )


@router.get("/leases/{lease_id:uuid}")
@needs(Role.VIEWER)
async def lease_page(
    farm: Farm, caller: Caller, request: Request, lease_id: UUID, did: Did | None = None
) -> Response:
    lease = await farm.leases.look_up(caller.scope, lease_id)
    return render(
        request,
        "lease.html",
        title=f"Lease {lease.fence}",
        is_live=True,
        next_in=lease.expires_in if lease.is_live else None,
        did=did,
        lease=lease,
        problem=None,
    )


@router.post("/leases/{lease_id:uuid}/force-release")
@needs(Role.MANAGER)
async def force_release(
    farm: Farm,
    caller: Caller,
    request: Request,
    lease_id: UUID,
    reason: Annotated[Note, Form()],
    return_to: ReturnTo = None,
) -> Response:
    lease = await farm.leases.force_release(caller, lease_id, reason=reason)
    if (lease.ended_by, lease.note) != (EndedBy.FORCED, reason):
        return _told(request, lease)
    return after_change(lease_id, return_to, Did.FORCED)


def after_change(lease_id: UUID, return_to: UUID | None, did: Did) -> Response:
    return see(
        f"/ui/leases/{lease_id}?did={did}" if return_to is None else f"/ui/users/{return_to}?did={did}"
    )


def _told(request: Request, lease: Lease) -> Response:
    """The lease had ended before: the page says how."""
    problem = problem_of(request, ChangedMeanwhileError("The lease had ended before, so nothing was done."))
    return render(
        request,
        "lease.html",
        title=problem["title"],
        status=problem["status"],
        did=None,
        lease=lease,
        problem=problem,
    )


async def _user_id(farm: Services, caller: Principal, pool: ChosenPool, id_or_login: str) -> UUID:
    """Raises NoSuchUserError, and InvalidRequestError when users of several pools have the login."""
    given = id_or_name(id_or_login)
    if isinstance(given, UUID):
        return given
    chosen = UserFilter(project_id=pool.project_id, env=pool.env, domain=pool.domain, login=given)
    found = (await farm.users.list(caller.scope, chosen, cursor=None, limit=2)).items
    if not found:
        raise NoSuchUserError("No user here has this login: it is compared as a whole.")
    if len(found) > 1:
        raise InvalidRequestError(
            FieldError("user", "ambiguous", "several users have this login: choose project and env, too")
        )
    return found[0].id
