import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    func,
    literal,
    not_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import in_scope
from botfarm.db.shared.tables import UserRow
from botfarm.domain.access import Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.health import Health
from botfarm.domain.leases import REJECTED
from botfarm.domain.logins import login_key
from botfarm.domain.pools import Pool
from botfarm.domain.users import MAX_LABELS, POLICY, UserChanges, UserStatus
from botfarm.errors import FieldError, InvalidRequestError, NoSuchProjectError, UserExistsError

INSERT_USERS = text("""
    INSERT INTO users (id, login, login_key, password, secrets, totp_seed, project_id, env, domain, labels, managed_by)
    SELECT id, login, login_key, password, secrets, totp_seed, project_id, env, domain, CAST(labels AS jsonb),
           CAST(:managed_by AS text)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:logins AS text[]), CAST(:login_keys AS text[]),
                CAST(:passwords AS text[]), CAST(:secrets AS text[]), CAST(:totp_seeds AS text[]),
                CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]),
                CAST(:labels AS text[]))
         AS new (id, login, login_key, password, secrets, totp_seed, project_id, env, domain, labels)
    ON CONFLICT DO NOTHING
    RETURNING id""")


@dataclass(frozen=True, slots=True)
class NewUser:
    id: UUID
    login: str
    login_key: str
    sealed: SealedCredentials
    pool: Pool
    labels: str
    """JSON text, because an import of many users would need much more memory for dictionaries."""


async def insert_user(session: AsyncSession, new: NewUser) -> bool:
    """Returns False when the project and env have a user of this login already. Raises NoSuchProjectError."""
    statement = insert(UserRow).values(
        id=new.id,
        login=new.login,
        login_key=new.login_key,
        password=new.sealed.password,
        secrets=new.sealed.secrets,
        totp_seed=new.sealed.totp_seed,
        project_id=new.pool.project_id,
        env=new.pool.env,
        domain=new.pool.domain,
        labels=json.loads(new.labels),
    )
    try:
        inserted = await session.scalar(statement.on_conflict_do_nothing().returning(UserRow.id))
    except IntegrityError as error:
        raise _refused(error) from None
    return inserted is not None


async def insert_users(
    session: AsyncSession, users: Sequence[NewUser], *, managed_by: str | None = None
) -> set[UUID]:
    """Inserts the users, except those whose login exists already or occurred earlier in `users`.

    Returns the inserted ids. Raises NoSuchProjectError.

    A caller with several batches must sort all users by `insert_order`, so that two imports cannot deadlock.
    """
    columns = {
        "ids": [user.id for user in users],
        "logins": [user.login for user in users],
        "login_keys": [user.login_key for user in users],
        "passwords": [user.sealed.password for user in users],
        "secrets": [user.sealed.secrets for user in users],
        "totp_seeds": [user.sealed.totp_seed for user in users],
        "project_ids": [user.pool.project_id for user in users],
        "envs": [user.pool.env for user in users],
        "domains": [user.pool.domain for user in users],
        "labels": [user.labels for user in users],
        "managed_by": managed_by,
    }
    try:
        return set(await session.scalars(INSERT_USERS, columns))
    except IntegrityError as error:
        raise _refused(error) from None


def insert_order(user: NewUser) -> tuple[UUID, str, str]:
    return user.pool.project_id, user.pool.env, user.login_key


@dataclass(frozen=True, slots=True)
class LockedUser:
    """A user whose row is locked until the transaction ends."""

    login: str
    pool: Pool
    sealed: SealedCredentials
    is_leased: bool
    """True if a lease on the user was live when the row lock was taken."""
    row: UserRow = field(repr=False)
    """Only for `update_user`."""


async def lock_user(session: AsyncSession, user_id: UUID, scope: Scope) -> LockedUser | None:
    """Locks the user until the transaction ends. None when the scope has no such user."""
    found = select(UserRow).where(UserRow.id == user_id, _within(scope)).with_for_update()
    row = await session.scalar(found)
    if row is None:
        return None
    live = select(literal(row.expires_at) > func.clock_timestamp())
    return LockedUser(
        login=row.login,
        pool=Pool(row.project_id, row.env, row.domain),
        sealed=SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password),
        is_leased=row.expires_at is not None and bool(await session.scalar(live)),
        row=row,
    )


async def update_user(
    session: AsyncSession, user: LockedUser, changes: UserChanges, sealed: SealedCredentials
) -> None:
    """Changes a locked user and replaces its credentials. Raises UserExistsError, NoSuchProjectError."""
    row = user.row
    if (sealed.password, sealed.totp_seed) != (row.password, row.totp_seed):
        _trust_again(row)
    row.pending_password = sealed.pending_password
    row.password, row.secrets, row.totp_seed = sealed.password, sealed.secrets, sealed.totp_seed
    columns = {
        "login": changes.login,
        "project_id": changes.project_id,
        "env": changes.env,
        "domain": changes.domain,
        "session_expires_at": changes.session_expires_at,
    }
    for column, value in columns.items():
        if value is not None:
            setattr(row, column, value)
    if changes.labels:
        merged = {**row.labels, **changes.labels}
        row.labels = {key: value for key, value in merged.items() if value is not None}
        if len(row.labels) > MAX_LABELS:
            raise InvalidRequestError(
                FieldError("labels", "invalid", f"must have at most {MAX_LABELS} entries")
            )
    if changes.login is not None:
        row.login_key = login_key(changes.login)
    try:
        await session.flush()
        if changes.login is not None:
            # Writes the key again, because a trigger for the previous version resets the key when the login
            # changes and the key does not.
            key = login_key(changes.login)
            await session.execute(update(UserRow).where(UserRow.id == row.id).values(login_key=key))
    except IntegrityError as error:
        raise _refused(error) from None


def _trust_again(row: UserRow) -> None:
    """New credentials may work where the old ones were rejected: a keeper finds out."""
    if row.health == Health.FAILING:
        row.health, row.health_reason = Health.UNKNOWN, None
    if row.status == UserStatus.QUARANTINED and row.status_by == POLICY and row.status_reason in REJECTED:
        row.status, row.status_reason = UserStatus.DIRTY, None


async def delete_user(session: AsyncSession, user_id: UUID, scope: Scope) -> Pool | None:
    """Deletes the user. Returns its pool, or None when there is no such user or a lease on it is live."""
    live = and_(UserRow.locktime.is_not(None), UserRow.expires_at > func.clock_timestamp())
    here = and_(UserRow.id == user_id, _within(scope))
    statement = (
        delete(UserRow).where(here, not_(live)).returning(UserRow.project_id, UserRow.env, UserRow.domain)
    )
    row = (await session.execute(statement)).one_or_none()
    return Pool(row.project_id, row.env, row.domain) if row else None


def _refused(error: IntegrityError) -> Exception:
    """The caller's error for the violated constraint, or the error itself when it is a bug."""
    match getattr(error.orig, "sqlstate", None):
        case "23505":  # unique_violation
            return UserExistsError()
        case "23503":  # foreign_key_violation: the only one is to the project
            return NoSuchProjectError()
        case _:
            return error


def _within(scope: Scope) -> ColumnElement[bool]:
    return in_scope(scope, project_id=UserRow.project_id, env=UserRow.env)
