"""A holder's own hold. These are the only pages with credentials, and the audit records each reading of them."""

from typing import Annotated
from uuid import UUID

from fastapi import Form, Request, Response

from botfarm.domain.access import Principal, Role
from botfarm.domain.leases import Lease, Outcome, Purpose, Verdict
from botfarm.errors import LeaseLapsedError, NotTheHolderError
from botfarm.runtime.services import Services
from botfarm.web.api.shared.fields import Note
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.roles import needs
from botfarm.web.pages.done_words import Did
from botfarm.web.pages.lease_pages import ReturnTo, after_change
from botfarm.web.pages.page_routing import page_router
from botfarm.web.pages.rendering import render

router = page_router()


@router.post("/leases/{lease_id:uuid}/reveal")
@needs(Role.RUNNER)
async def reveal(
    farm: Farm, caller: Caller, request: Request, lease_id: UUID, return_to: ReturnTo = None
) -> Response:
    """Answers with the page that has the password, and no redirection, because no address shows it."""
    await _own_hold(farm, caller, lease_id)
    lease = await farm.leases.get(caller, lease_id)
    if not lease.is_live:
        raise LeaseLapsedError
    return render(request, "hold.html", title="Your hold", lease=lease, codes={}, return_to=return_to)


@router.post("/leases/{lease_id:uuid}/users/{user_id:uuid}/code")
@needs(Role.RUNNER)
async def one_time_code(
    farm: Farm, caller: Caller, request: Request, lease_id: UUID, user_id: UUID, return_to: ReturnTo = None
) -> Response:
    """May take 30 seconds, because no code is given twice."""
    lease = await _own_hold(farm, caller, lease_id)
    code = await farm.one_time_codes.get(caller, lease_id, user_id)
    codes = {user_id: code}
    return render(request, "hold.html", title="Your hold", lease=lease, codes=codes, return_to=return_to)


@router.post("/leases/{lease_id:uuid}/renew")
@needs(Role.RUNNER)
async def renew(farm: Farm, caller: Caller, lease_id: UUID, return_to: ReturnTo = None) -> Response:
    await _own_hold(farm, caller, lease_id)
    await farm.leases.renew(caller, lease_id, ttl_seconds=None)
    return after_change(lease_id, return_to, Did.RENEWED)


@router.post("/leases/{lease_id:uuid}/release")
@needs(Role.RUNNER)
async def release(
    farm: Farm,
    caller: Caller,
    lease_id: UUID,
    outcome: Annotated[Outcome, Form()] = Outcome.OK,
    note: Annotated[Note | None, Form()] = None,
    return_to: ReturnTo = None,
) -> Response:
    await _own_hold(farm, caller, lease_id)
    await farm.leases.release(caller, lease_id, Verdict(outcome, note=note))
    return after_change(lease_id, return_to, Did.RELEASED)


async def _own_hold(farm: Services, caller: Principal, lease_id: UUID) -> Lease:
    """Without credentials, live or ended. Raises NoSuchLeaseError, NotTheHolderError."""
    lease = await farm.leases.look_up(caller.scope, lease_id)
    if lease.principal != caller.name or lease.purpose is not Purpose.HOLD:
        raise NotTheHolderError("This page is for your own holds only.")
    return lease
