from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.credentials import TotpCode
from botfarm.domain.leases import Lease, LeasedUser, LeaseFilter, LeaseState, LeaseTerms, Purpose
from botfarm.domain.paging import Page
from botfarm.services.leasing.one_time_codes import LEAST
from botfarm.web.api.leasing.lease_requests import (
    ForcedRelease,
    LeaseRequest,
    Release,
    Renewal,
    Rotation,
    WriteBack,
)
from botfarm.web.api.leasing.lease_responses import LeasedUserOut, LeaseOut, RotationOut, TotpOut
from botfarm.web.api.shared.fields import SearchText, ShortName
from botfarm.web.api.shared.response_body import PageOut
from botfarm.web.http.caller_connection import RequestConnection
from botfarm.web.http.dependencies import Caller, Cursor, Farm, IdempotencyKey, Limit
from botfarm.web.http.fast_path import fast_path
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("leases")


@router.post(
    "/leases",
    status_code=201,
    response_model=LeaseOut,
    responses={
        200: {
            "model": LeaseOut,
            "description": "The live lease that was taken under the same Idempotency-Key.",
        },
        **raises(
            errors.NoSuchProjectError,
            errors.NoSuchPoolError,
            errors.NoSuchUserError,
            errors.UserBusyError,
            errors.UserDirtyError,
            errors.UserQuarantinedError,
            errors.UserRetiredError,
            errors.PoolExhaustedError,
            errors.PoolTooSmallError,
            errors.WaitSupersededError,
            errors.TooManyWaitersError,
            errors.QuotaExceededError,
            errors.IdempotencyKeyEndedError,
            errors.IdempotencyKeyReusedError,
            body=True,
        ),
    },
)
@needs(Role.RUNNER)
@fast_path
async def acquire_lease(
    farm: Farm,
    caller: Caller,
    request: Request,
    response: Response,
    body: LeaseRequest,
    idempotency_key: IdempotencyKey = None,
) -> Lease:
    """Take one or several users of a pool, all or nothing; `wait_seconds` waits until they are free.

    With `user`, the one user of this login. With the purpose `chore`, users that wait for a keeper; with `hold`, a
    user that a person keeps for a while.
    """
    terms = LeaseTerms(body.ttl_seconds, body.owner, body.metadata, idempotency_key, note=body.note)
    connection = RequestConnection(request)
    if body.user_id is not None:
        grant = await farm.user_acquiring.hold(caller, body.user_id, terms, connection=connection)
    else:
        grant = await farm.acquiring.acquire_lease(
            caller,
            project=body.project_id or body.project or "",
            env=body.pool_env,
            domain=body.domain,
            user=body.user,
            labels=body.labels,
            count=body.count,
            priority=body.priority,
            terms=terms,
            purpose=body.purpose,
            wait_seconds=body.wait_seconds,
            connection=connection,
        )
    if grant.replayed:
        response.status_code = 200
    return grant.lease


@router.get("/leases", response_model=PageOut[LeaseOut], responses=raises())
@needs(Role.VIEWER)
async def get_leases(
    farm: Farm,
    caller: Caller,
    limit: Limit,
    state: LeaseState | None = None,
    project_id: UUID | None = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    user_id: UUID | None = None,
    owner: SearchText = None,
    principal: SearchText = None,
    purpose: Purpose | None = None,
    cursor: Cursor = None,
) -> Page[Lease]:
    """Leases that match, live and ended, the newest first, without passwords."""
    chosen = LeaseFilter(state, project_id, env, domain, user_id, owner, principal, purpose)
    return await farm.leases.list(caller.scope, chosen, cursor=cursor, limit=limit)


@router.get("/leases/{lease_id}", response_model=LeaseOut, responses=raises(errors.NoSuchLeaseError))
@needs(Role.VIEWER)
async def get_lease(farm: Farm, caller: Caller, lease_id: UUID) -> Lease:
    """One lease; with passwords for its holder while it is live."""
    return await farm.leases.get(caller, lease_id)


@router.post(
    "/leases/{lease_id}/renew",
    response_model=LeaseOut,
    responses=raises(errors.NoSuchLeaseError, errors.NotTheHolderError, errors.LeaseLapsedError, body=True),
)
@needs(Role.RUNNER)
@fast_path
async def renew_lease(farm: Farm, caller: Caller, lease_id: UUID, body: Renewal | None = None) -> Lease:
    """Keep the users for longer; never shortens, and ends at `hold_until`."""
    return await farm.leases.renew(caller, lease_id, ttl_seconds=body.ttl_seconds if body else None)


@router.post(
    "/leases/{lease_id}/release",
    response_model=LeaseOut,
    responses=raises(errors.NoSuchLeaseError, errors.NotTheHolderError, errors.LeaseLapsedError, body=True),
)
@needs(Role.RUNNER)
@fast_path
async def release_lease(farm: Farm, caller: Caller, lease_id: UUID, body: Release | None = None) -> Lease:
    """Give the users back. Once more is the same as once."""
    body = body or Release()
    of_users = {user.id: user.verdict() for user in body.users}
    return await farm.leases.release(caller, lease_id, body.verdict(), of_users)


@router.post(
    "/leases/{lease_id}/force_release",
    response_model=LeaseOut,
    responses=raises(errors.NoSuchLeaseError, body=True),
)
@needs(Role.MANAGER)
async def force_release_lease(farm: Farm, caller: Caller, lease_id: UUID, body: ForcedRelease) -> Lease:
    """End anybody's lease, with a reason; its users rest for the lock-delay."""
    return await farm.leases.force_release(caller, lease_id, reason=body.reason)


@router.get(
    "/leases/{lease_id}/users/{user_id}/totp",
    response_model=TotpOut,
    responses=raises(
        errors.NoSuchLeaseError,
        errors.NoSuchUserError,
        errors.NotTheHolderError,
        errors.LeaseLapsedError,
        errors.SlowDownError,
    ),
)
@needs(Role.RUNNER)
async def get_totp(
    farm: Farm,
    caller: Caller,
    lease_id: UUID,
    user_id: UUID,
    good_for: Annotated[float, Query(ge=0, le=20, description="Seconds that are needed to use it.")] = LEAST,
) -> TotpCode:
    """A one-time password that nobody has got yet, for the holder; may take 30 seconds to come."""
    return await farm.one_time_codes.get(caller, lease_id, user_id, good_for=good_for)


@router.patch(
    "/leases/{lease_id}/users/{user_id}",
    response_model=LeasedUserOut,
    responses=raises(
        errors.NoSuchLeaseError,
        errors.NoSuchUserError,
        errors.NotTheHolderError,
        errors.LeaseLapsedError,
        body=True,
    ),
)
@needs(Role.RUNNER)
async def write_back(
    farm: Farm, caller: Caller, lease_id: UUID, user_id: UUID, body: WriteBack
) -> LeasedUser:
    """Keep what a test changed: a new password, or a browser's session, for the next holder."""
    password = body.password.get_secret_value() if body.password else None
    return await farm.lease_credentials.write_back(
        caller,
        lease_id,
        user_id,
        password=password,
        secrets=body.secrets,
        session_expires_at=body.session_expires_at,
    )


@router.post(
    "/leases/{lease_id}/users/{user_id}/rotation",
    response_model=RotationOut,
    responses=raises(
        errors.NoSuchLeaseError,
        errors.NoSuchUserError,
        errors.NotTheHolderError,
        errors.LeaseLapsedError,
        errors.RotationPendingError,
        body=True,
    ),
)
@needs(Role.RUNNER)
async def start_rotation(
    farm: Farm, caller: Caller, lease_id: UUID, user_id: UUID, body: Rotation | None = None
) -> RotationOut:
    """Keep a new password before it is set in the system; no test gets the user until it is confirmed."""
    password = body.password.get_secret_value() if body and body.password else None
    pending = await farm.lease_credentials.start_rotation(caller, lease_id, user_id, password=password)
    return RotationOut(pending_password=pending)


@router.post(
    "/leases/{lease_id}/users/{user_id}/rotation/confirm",
    response_model=LeasedUserOut,
    responses=raises(
        errors.NoSuchLeaseError,
        errors.NoSuchUserError,
        errors.NotTheHolderError,
        errors.LeaseLapsedError,
        errors.NoRotationError,
    ),
)
@needs(Role.RUNNER)
async def confirm_rotation(farm: Farm, caller: Caller, lease_id: UUID, user_id: UUID) -> LeasedUser:
    """The system has the new password: make it the user's. Once more is the same as once."""
    return await farm.lease_credentials.confirm_rotation(caller, lease_id, user_id)
