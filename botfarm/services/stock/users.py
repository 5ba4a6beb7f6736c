import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.leasing import lease_reading_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import project_queries, user_queries, user_reading_queries
from botfarm.db.stock.user_queries import NewUser
from botfarm.db.stock.user_reading_queries import UserCursor
from botfarm.domain.access import Principal, Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.logins import login_key
from botfarm.domain.paging import Page
from botfarm.domain.pools import SHORT_NAME, Pool
from botfarm.domain.users import User, UserChanges, UserFilter, UserState
from botfarm.errors import (
    BotfarmError,
    ChangedMeanwhileError,
    FieldError,
    ForbiddenError,
    InvalidRequestError,
    NoSuchProjectError,
    NoSuchUserError,
    UserBusyError,
    UserDirtyError,
    UserExistsError,
    UserQuarantinedError,
    UserRetiredError,
)
from botfarm.services.shared.cursors import decode_cursor, encode_cursor, invalid_cursor
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.sealing import (
    Secrets,
    merge_secrets,
    seal,
    seal_password,
    seal_totp_seed,
)

_SECRET_CHANGES = ("password", "secrets", "totp_seed")


class Users:
    def __init__(self, database: Database, key_ring: KeyRing, notifier: Notifier) -> None:
        self._database = database
        self._key_ring = key_ring
        self._notifier = notifier

    async def create(
        self,
        principal: Principal,
        *,
        login: str,
        password: str,
        pool: Pool,
        labels: Mapping[str, str],
        secrets: Secrets | None = None,
        totp_seed: str | None = None,
    ) -> User:
        """Raises NoSuchProjectError, UserExistsError, ForbiddenError for an env outside of the scope.

        InvalidRequestError for an env, a domain or a login that the project does not have or allow.
        """
        _require_pool(principal.scope, pool)
        user_id = uuid4()
        sealed = seal(self._key_ring, user_id, password=password, secrets=secrets, totp_seed=totp_seed)
        async with self._database.transaction() as session:
            await _require_fit(session, principal.scope, pool, login)
            if not await user_queries.insert_user(
                session, NewUser(user_id, login, login_key(login), sealed, pool, json.dumps(dict(labels)))
            ):
                raise UserExistsError
            user = _existing(await user_reading_queries.get_user(session, user_id, principal.scope))
            await _record(session, principal, "create_user", user_id, pool, login=login)
        self._notifier.freed(pool.project_id)
        return user

    async def get(self, scope: Scope, user_id: UUID) -> User:
        async with self._database.autocommit() as session:
            return await _with_last_lease(session, user_id, scope)

    async def update(
        self, principal: Principal, user_id: UUID, changes: UserChanges, *, seen: str | None = None
    ) -> User:
        """Raises NoSuchUserError, UserExistsError, NoSuchProjectError, ForbiddenError.

        InvalidRequestError for an env, a domain or a login that the project does not have or allow.
        UserBusyError for a move under a live lease; ChangedMeanwhileError unless the user has the version `seen`.
        """
        async with self._database.transaction() as session:
            await lock_as_seen(session, principal.scope, user_id, seen)
            locked = await user_queries.lock_user(session, user_id, principal.scope)
            if locked is None:
                raise NoSuchUserError
            before, after = locked.pool, _pool_after(locked.pool, changes)
            _require_pool(principal.scope, after)
            if locked.is_leased and after != before:
                user = _existing(await user_reading_queries.get_user(session, user_id, principal.scope))
                raise user_busy(user)
            is_renamed = changes.login not in {None, locked.login}
            if after != before or is_renamed:
                field = "login" if is_renamed else "project_id"
                has_other_rules = is_renamed or after.project_id != before.project_id
                login = (changes.login or locked.login) if has_other_rules else None
                await _require_fit(session, principal.scope, after, login, field=field)
            sealed = self._changed(user_id, locked.sealed, changes)
            await user_queries.update_user(session, locked, changes, sealed)
            details = _what_changes(changes)
            if _place(after) == _place(before):
                await _record(session, principal, "update_user", user_id, after, **details)
            else:  # two entries, because readers of either pool must see the move and not the other pool
                await _record(session, principal, "update_user", user_id, before, moved="away")
                await _record(session, principal, "update_user", user_id, after, **details, moved="here")
            user = await _with_last_lease(session, user_id, principal.scope)
        self._notifier.freed(after.project_id)
        return user

    async def delete(self, principal: Principal, user_id: UUID, *, seen: str | None = None) -> None:
        """Its history stays. Raises NoSuchUserError; UserBusyError while a lease is live.

        ChangedMeanwhileError unless the user has the version `seen`.
        """
        async with self._database.transaction() as session:
            await lock_as_seen(session, principal.scope, user_id, seen)
            pool = await user_queries.delete_user(session, user_id, principal.scope)
            if pool is None:
                user = _existing(await user_reading_queries.get_user(session, user_id, principal.scope))
                raise user_busy(user)
            await _record(session, principal, "delete_user", user_id, pool)

    async def list(self, scope: Scope, chosen: UserFilter, *, cursor: str | None, limit: int) -> Page[User]:
        after = _decode(cursor) if cursor else None
        async with self._database.autocommit() as session:
            users = await user_reading_queries.list_users(
                session, chosen, scope, after=after, limit=limit + 1
            )
        more = len(users) > limit
        page = tuple(users[:limit])
        return Page(page, encode_cursor(*user_reading_queries.cursor_of(page[-1])) if more else None)

    def _changed(self, user_id: UUID, before: SealedCredentials, changes: UserChanges) -> SealedCredentials:
        password, secrets = before.password, None if changes.removes_secrets else before.secrets
        # A manager that sets a password says what it is: a rotation that was under way is over.
        pending_password = None if changes.password else before.pending_password
        totp_seed = None if changes.removes_totp_seed else before.totp_seed
        if changes.password:
            password = seal_password(self._key_ring, user_id, changes.password)
        if changes.secrets:
            secrets = merge_secrets(self._key_ring, user_id, secrets, changes.secrets)
        if changes.totp_seed:
            totp_seed = seal_totp_seed(self._key_ring, user_id, changes.totp_seed)
        return SealedCredentials(password, secrets, totp_seed, pending_password)


def not_in_service(user: User) -> BotfarmError | None:
    """Why no test gets the user even if it is nobody's; None for a user that is only taken."""
    match user.state:
        case UserState.DIRTY:
            return UserDirtyError()
        case UserState.QUARANTINED:
            return UserQuarantinedError(status_reason=user.status_reason, status_until=user.status_until)
        case UserState.RETIRED:
            return UserRetiredError()
        case _:
            return None


def user_busy(user: User) -> UserBusyError:
    return UserBusyError(locktime=user.locktime, expires_in=user.busy_for or 0.0)


async def lock_as_seen(session: AsyncSession, scope: Scope, user_id: UUID, seen: str | None) -> None:
    """Locks the user until the transaction ends, when the caller has seen a version of it.

    Raises NoSuchUserError; ChangedMeanwhileError when the user has another version by now.
    """
    if seen is None:
        return
    await user_queries.lock_user(session, user_id, scope)
    if _existing(await user_reading_queries.get_user(session, user_id, scope)).version != seen:
        raise ChangedMeanwhileError


async def _with_last_lease(session: AsyncSession, user_id: UUID, scope: Scope) -> User:
    user = _existing(await user_reading_queries.get_user(session, user_id, scope))
    last = await lease_reading_queries.get_lease(session, user.lease_id, scope) if user.lease_id else None
    return replace(user, last_lease=last)


async def _record(
    session: AsyncSession,
    principal: Principal,
    action: str,
    user_id: UUID,
    pool: Pool,
    **details: object,
) -> None:
    await audit_queries.record(
        session,
        principal,
        action,
        target="user",
        target_id=user_id,
        project_id=pool.project_id,
        env=pool.env,
        details=details,
    )


def _what_changes(changes: UserChanges) -> dict[str, object]:
    """The new values for the audit; of credentials only that they changed."""
    given = {name: value for name, value in asdict(changes).items() if value}
    hidden = {name: "changed" for name in _SECRET_CHANGES if given.pop(name, None)}
    return {**given, **hidden}


def _pool_after(before: Pool, changes: UserChanges) -> Pool:
    return Pool(
        changes.project_id or before.project_id, changes.env or before.env, changes.domain or before.domain
    )


def _place(pool: Pool) -> tuple[UUID, str]:
    """Project and env, by which scopes are defined."""
    return pool.project_id, pool.env


def _require_pool(scope: Scope, pool: Pool) -> None:
    """Raises NoSuchProjectError for a project outside of the scope, ForbiddenError for an env outside."""
    if not scope.has_project(pool.project_id):
        raise NoSuchProjectError
    if not scope.has_env(pool.env):
        raise ForbiddenError(f"Your scope does not have the env {pool.env}.")


async def _require_fit(
    session: AsyncSession, scope: Scope, pool: Pool, login: str | None, *, field: str = "login"
) -> None:
    """The project has the env and the domain, until the transaction ends, and allows the login if one is given.

    Raises NoSuchProjectError, InvalidRequestError. The `field` is the one that is wrong where the login is.
    """
    project = (await project_queries.lock_projects(session, [pool.project_id], scope)).get(pool.project_id)
    if project is None:
        raise NoSuchProjectError
    names = {"env": project.within(scope).envs, "domain": project.domains}
    wrong = [
        FieldError(each, "unknown", f"must be one that the project has: {', '.join(names[each])}")
        for each in project.lacking(pool.env, pool.domain)
    ]
    if login is not None and not project.policy.logins.allow(login):
        message = "the project's logins are e-mail addresses, and this user's would be none"
        wrong.append(FieldError(field, "invalid", message))
    if wrong:
        raise InvalidRequestError(*wrong)


def _existing(user: User | None) -> User:
    if user is None:
        raise NoSuchUserError
    return user


def _decode(cursor: str) -> UserCursor:
    project_id, env, domain, user_id = decode_cursor(cursor, 4)
    if not (re.fullmatch(SHORT_NAME, env) and re.fullmatch(SHORT_NAME, domain)):
        raise invalid_cursor()
    try:
        return UUID(project_id), env, domain, UUID(user_id)
    except ValueError:
        raise invalid_cursor() from None
