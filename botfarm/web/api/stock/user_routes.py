from typing import Annotated
from uuid import UUID

from fastapi import Query, Request

from botfarm import errors
from botfarm.domain.access import Role
from botfarm.domain.health import Health
from botfarm.domain.leases import Lease, LeaseTerms
from botfarm.domain.paging import Page
from botfarm.domain.pools import Pool
from botfarm.domain.users import MAX_LABELS, BulkResult, HistoryEntry, User, UserFilter, UserState
from botfarm.web.api.leasing.lease_requests import LockRelease, LockRequest
from botfarm.web.api.leasing.lease_responses import LeaseOut
from botfarm.web.api.shared.fields import Label, SearchText, ShortName, labels_by_key
from botfarm.web.api.shared.response_body import PageOut
from botfarm.web.api.stock.user_requests import (
    BulkRequest,
    NewUser,
    Quarantine,
    Restore,
    Retirement,
    UserPatch,
)
from botfarm.web.api.stock.user_responses import BulkOut, HistoryEntryOut, UserDetailsOut, UserOut
from botfarm.web.http.caller_connection import RequestConnection
from botfarm.web.http.dependencies import Caller, Cursor, Farm, IdempotencyKey, Limit
from botfarm.web.http.roles import needs
from botfarm.web.http.routing import api_router, raises

router = api_router("users")


@router.post(
    "/users",
    status_code=201,
    response_model=UserDetailsOut,
    responses=raises(errors.NoSuchProjectError, errors.UserExistsError, body=True),
)
@needs(Role.MANAGER)
async def create_user(farm: Farm, caller: Caller, body: NewUser) -> User:
    """Add a test account to a pool."""
    return await farm.users.create(
        caller,
        login=body.login,
        password=body.password.get_secret_value(),
        pool=Pool(body.project_id, body.env, body.domain),
        labels=body.labels,
        secrets=body.secrets,
        totp_seed=body.plain_totp_seed,
    )


@router.get("/users", response_model=PageOut[UserOut], responses=raises())
@needs(Role.VIEWER)
async def get_users(
    farm: Farm,
    caller: Caller,
    limit: Limit,
    project_id: UUID | None = None,
    env: ShortName | None = None,
    domain: ShortName | None = None,
    state: UserState | None = None,
    health: Health | None = None,
    login: SearchText = None,
    search: Annotated[SearchText, Query(description="A part of the login.")] = None,
    label: Annotated[
        list[Label] | None,
        Query(
            max_length=MAX_LABELS, description="`key:value`; several, each with another key, must all match."
        ),
    ] = None,
    cursor: Cursor = None,
) -> Page[User]:
    """The users that match, pool by pool, without passwords."""
    chosen = UserFilter(project_id, env, domain, state, health, login, labels_by_key(label or []), search)
    return await farm.users.list(caller.scope, chosen, cursor=cursor, limit=limit)


@router.post("/users/bulk", response_model=BulkOut, responses=raises(body=True))
@needs(Role.MANAGER)
async def change_users(farm: Farm, caller: Caller, body: BulkRequest) -> BulkResult:
    """Change all users of a filter, at most 10,000; leased ones are quarantined and retired from their release on."""
    return await farm.bulk.change(caller, body.chosen(), body.change(), dry_run=body.dry_run)


@router.get("/users/{user_id}", response_model=UserDetailsOut, responses=raises(errors.NoSuchUserError))
@needs(Role.VIEWER)
async def get_user(farm: Farm, caller: Caller, user_id: UUID) -> User:
    """One user, and who used it last."""
    return await farm.users.get(caller.scope, user_id)


@router.get(
    "/users/{user_id}/history",
    response_model=PageOut[HistoryEntryOut],
    responses=raises(errors.NoSuchUserError),
)
@needs(Role.VIEWER)
async def get_user_history(
    farm: Farm, caller: Caller, user_id: UUID, limit: Limit, cursor: Cursor = None
) -> Page[HistoryEntry]:
    """Who had the user and how that ended, and what was done to it, the newest first."""
    return await farm.history.list(caller.scope, user_id, cursor=cursor, limit=limit)


@router.patch(
    "/users/{user_id}",
    response_model=UserDetailsOut,
    responses=raises(
        errors.NoSuchUserError,
        errors.NoSuchProjectError,
        errors.UserExistsError,
        errors.UserBusyError,
        body=True,
    ),
)
@needs(Role.MANAGER)
async def update_user(farm: Farm, caller: Caller, user_id: UUID, body: UserPatch) -> User:
    """Change a user. A new password ends a rotation that was under way."""
    return await farm.users.update(caller, user_id, body.changes())


@router.delete(
    "/users/{user_id}", status_code=204, responses=raises(errors.NoSuchUserError, errors.UserBusyError)
)
@needs(Role.MANAGER)
async def delete_user(farm: Farm, caller: Caller, user_id: UUID) -> None:
    """Delete a user that nobody holds; its history stays."""
    await farm.users.delete(caller, user_id)


@router.post(
    "/users/{user_id}/quarantine",
    response_model=UserOut,
    responses=raises(errors.NoSuchUserError, errors.UserRetiredError, body=True),
)
@needs(Role.MANAGER)
async def quarantine_user(farm: Farm, caller: Caller, user_id: UUID, body: Quarantine) -> User:
    """Take a user out of service; a leased one from its release on."""
    return await farm.user_statuses.quarantine(caller, user_id, reason=body.reason, until=body.until)


@router.post(
    "/users/{user_id}/restore",
    response_model=UserOut,
    responses=raises(errors.NoSuchUserError, errors.UserRetiredError, body=True),
)
@needs(Role.MANAGER)
async def restore_user(farm: Farm, caller: Caller, user_id: UUID, body: Restore | None = None) -> User:
    """Put a quarantined or dirty user back into service, after a keeper where one is required."""
    body = body or Restore()
    return await farm.user_statuses.restore(caller, user_id, note=body.note, clean=body.clean)


@router.post(
    "/users/{user_id}/retire", response_model=UserOut, responses=raises(errors.NoSuchUserError, body=True)
)
@needs(Role.MANAGER)
async def retire_user(farm: Farm, caller: Caller, user_id: UUID, body: Retirement) -> User:
    """Take a user out of service for good; its history stays."""
    return await farm.user_statuses.retire(caller, user_id, reason=body.reason)


@router.post(
    "/users/{user_id}/acquire_lock",
    response_model=LeaseOut,
    responses=raises(
        errors.NoSuchUserError,
        errors.UserBusyError,
        errors.UserDirtyError,
        errors.UserQuarantinedError,
        errors.UserRetiredError,
        errors.QuotaExceededError,
        errors.IdempotencyKeyEndedError,
        errors.IdempotencyKeyReusedError,
        body=True,
    ),
)
@needs(Role.RUNNER)
async def acquire_lock(
    farm: Farm,
    caller: Caller,
    request: Request,
    user_id: UUID,
    idempotency_key: IdempotencyKey = None,
    body: LockRequest | None = None,
) -> Lease:
    """Take this very user. When any user of a kind will do, `acquire_lease` is the better one."""
    body = body or LockRequest()
    terms = LeaseTerms(body.ttl_seconds, body.owner, body.metadata, idempotency_key)
    grant = await farm.user_acquiring.acquire_lock(
        caller, user_id, terms, connection=RequestConnection(request)
    )
    return grant.lease


@router.post(
    "/users/{user_id}/release_lock",
    response_model=UserOut,
    responses=raises(
        errors.NoSuchUserError,
        errors.NoSuchLeaseError,
        errors.NotTheHolderError,
        errors.LeaseIdRequiredError,
        errors.UseReleaseLeaseError,
        errors.LeaseLapsedError,
        body=True,
    ),
)
@needs(Role.RUNNER)
async def release_lock(farm: Farm, caller: Caller, user_id: UUID, body: LockRelease | None = None) -> User:
    """Give back the one user of a lease; a user that is free stays free."""
    return await farm.leases.release_lock(caller, user_id, lease_id=body.lease_id if body else None)
