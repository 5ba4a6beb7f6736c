"""What a person does with one user. Each form has the version of the user that the person saw."""

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Form, Request, Response

from botfarm.domain.access import Principal, Role
from botfarm.domain.leases import LeaseTerms
from botfarm.domain.users import UserChanges
from botfarm.errors import ConflictError, FieldError, InvalidRequestError
from botfarm.runtime.services import Services
from botfarm.web.api.shared.fields import MAX_TTL, Label, Note, Text
from botfarm.web.http.caller_connection import RequestConnection
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.error_responses import problem_of
from botfarm.web.http.roles import needs
from botfarm.web.pages.done_words import Did
from botfarm.web.pages.page_routing import page_router, see
from botfarm.web.pages.rendering import render

router = page_router()

Seen = Annotated[str, Form(max_length=64)]
YEAR = 31_536_000


@router.post("/users/{user_id:uuid}/quarantine")
@needs(Role.MANAGER)
async def quarantine(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    seen: Seen,
    reason: Annotated[Note, Form()],
    lasts: Annotated[int | None, Form(ge=1, le=YEAR)] = None,
) -> Response:
    """`lasts` are seconds; without them it lasts until somebody restores the user."""
    until = None if lasts is None else datetime.now(UTC) + timedelta(seconds=lasts)
    change = farm.user_statuses.quarantine(caller, user_id, reason=reason, until=until, seen=seen)
    return await _changed(farm, caller, request, user_id, change, Did.QUARANTINED)


@router.post("/users/{user_id:uuid}/restore")
@needs(Role.MANAGER)
async def restore(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    seen: Seen,
    note: Annotated[Note | None, Form()] = None,
    clean: Annotated[Literal["yes", "no"] | None, Form()] = None,
) -> Response:
    """`clean` is whether a keeper comes first; without it the project's policy decides."""
    is_cleaned = None if clean is None else clean == "yes"
    change = farm.user_statuses.restore(caller, user_id, note=note, clean=is_cleaned, seen=seen)
    return await _changed(farm, caller, request, user_id, change, Did.RESTORED)


@router.post("/users/{user_id:uuid}/retire")
@needs(Role.MANAGER)
async def retire(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    seen: Seen,
    reason: Annotated[Note, Form()],
) -> Response:
    change = farm.user_statuses.retire(caller, user_id, reason=reason, seen=seen)
    return await _changed(farm, caller, request, user_id, change, Did.RETIRED)


@router.post("/users/{user_id:uuid}/labels")
@needs(Role.MANAGER)
async def change_labels(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    seen: Seen,
    label: Annotated[Label | None, Form()] = None,
    remove: Annotated[Text | None, Form(max_length=63)] = None,
) -> Response:
    """Sets one label, or removes one by its key."""
    if label is not None:
        key, _, value = label.partition(":")
        changes: dict[str, str | None] = {key: value}
    elif remove is not None:
        changes = {remove: None}
    else:
        raise InvalidRequestError(FieldError("label", "missing", "Field required"))
    change = farm.users.update(caller, user_id, UserChanges(labels=changes), seen=seen)
    return await _changed(farm, caller, request, user_id, change, Did.LABELLED)


@router.post("/users/{user_id:uuid}/hold")
@needs(Role.MANAGER)
async def hold(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    lasts: Annotated[int, Form(ge=1, le=MAX_TTL)],
    note: Annotated[Note | None, Form()] = None,
) -> Response:
    terms = LeaseTerms(ttl_seconds=lasts, note=note)
    change = farm.user_acquiring.hold(caller, user_id, terms, connection=RequestConnection(request))
    return await _changed(farm, caller, request, user_id, change, Did.HELD)


@router.post("/users/{user_id:uuid}/delete")
@needs(Role.MANAGER)
async def delete(farm: Farm, caller: Caller, request: Request, user_id: UUID, seen: Seen) -> Response:
    """Leads to the pool that the user was in."""
    pool = (await farm.users.get(caller.scope, user_id)).pool
    project = await farm.projects.look_up(caller.scope, pool.project_id)
    try:
        await farm.users.delete(caller, user_id, seen=seen)
    except ConflictError as error:
        return await _told(farm, caller, request, user_id, error)
    chosen = {"project": project.name, "env": pool.env, "domain": pool.domain}
    return see(f"/ui/users?{urlencode(chosen)}")


async def _changed(
    farm: Services, caller: Principal, request: Request, user_id: UUID, change: Awaitable[object], did: Did
) -> Response:
    try:
        await change
    except ConflictError as error:
        return await _told(farm, caller, request, user_id, error)
    return see(f"/ui/users/{user_id}?did={did}")


async def _told(
    farm: Services, caller: Principal, request: Request, user_id: UUID, error: ConflictError
) -> Response:
    """Why nothing was done, and what has become of the user."""
    problem = problem_of(request, error)
    return render(
        request,
        "user_conflict.html",
        title=problem["title"],
        status=problem["status"],
        problem=problem,
        user=await farm.users.get(caller.scope, user_id),
    )
