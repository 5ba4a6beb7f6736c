import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    case,
    delete,
    func,
    literal,
    literal_column,
    not_,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from botfarm.db.shared.scope_filter import in_scope
from botfarm.db.shared.tables import LeaseRow, ProjectRow, UserRow
from botfarm.db.shared.user_state import STATUS, USER_STATE
from botfarm.domain.access import Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.health import Health
from botfarm.domain.leases import REJECTED
from botfarm.domain.logins import login_key
from botfarm.domain.pools import Domain, Env, Pool
from botfarm.domain.users import MAX_LABELS, POLICY, User, UserChanges, UserFilter, UserState, UserStatus
from botfarm.errors import FieldError, InvalidRequestError, NoSuchProjectError, UserExistsError

u, p = aliased(UserRow, name="u"), aliased(ProjectRow, name="p")
clock = select(func.clock_timestamp().label("now")).subquery("c")  # as USER_STATE wants it
# A list is paged by the columns of the pool index, so the cost of a page depends only on its rows.
_KEYSET = (u.project_id, u.env, u.domain, u.id)
UserCursor = tuple[UUID, str, str, UUID]
_NOTHING: UserCursor = (UUID(int=0), "", "", UUID(int=0))
"""Before every user."""


INSERT_USERS = text("""
    INSERT INTO users (id, login, login_key, password, secrets, totp_seed, project_id, env, domain, labels)
    SELECT id, login, login_key, password, secrets, totp_seed, project_id, env, domain, CAST(labels AS jsonb)
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
        env=new.pool.env.value,
        domain=new.pool.domain.value,
        labels=json.loads(new.labels),
    )
    try:
        inserted = await session.scalar(statement.on_conflict_do_nothing().returning(UserRow.id))
    except IntegrityError as error:
        raise _refused(error) from None
    return inserted is not None


async def insert_users(session: AsyncSession, users: Sequence[NewUser]) -> set[UUID]:
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
        "envs": [user.pool.env.value for user in users],
        "domains": [user.pool.domain.value for user in users],
        "labels": [user.labels for user in users],
    }
    try:
        return set(await session.scalars(INSERT_USERS, columns))
    except IntegrityError as error:
        raise _refused(error) from None


def insert_order(user: NewUser) -> tuple[UUID, str, str]:
    return user.pool.project_id, user.pool.env.value, user.login_key


@dataclass(frozen=True, slots=True)
class LockedUser:
    """A user whose row is locked until the transaction ends."""

    pool: Pool
    sealed: SealedCredentials
    is_leased: bool
    """True if a lease on the user was live when the row lock was taken."""
    row: UserRow = field(repr=False)
    """Only for `update_user`."""


async def lock_user(session: AsyncSession, user_id: UUID, scope: Scope) -> LockedUser | None:
    """Locks the user until the transaction ends. None when the scope has no such user."""
    found = select(UserRow).where(UserRow.id == user_id, _within(scope, UserRow)).with_for_update()
    row = await session.scalar(found)
    if row is None:
        return None
    live = select(literal(row.expires_at) > func.clock_timestamp())
    return LockedUser(
        pool=Pool(row.project_id, Env(row.env), Domain(row.domain)),
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
    here = and_(UserRow.id == user_id, _within(scope, UserRow))
    statement = (
        delete(UserRow).where(here, not_(live)).returning(UserRow.project_id, UserRow.env, UserRow.domain)
    )
    row = (await session.execute(statement)).one_or_none()
    return Pool(row.project_id, Env(row.env), Domain(row.domain)) if row else None


async def get_user(session: AsyncSession, user_id: UUID, scope: Scope) -> User | None:
    statement = _select_users(scope).where(u.id == user_id, _within(scope, u))
    row = (await session.execute(statement)).one_or_none()
    return _user(row) if row else None


async def list_users(
    session: AsyncSession, chosen: UserFilter, scope: Scope, *, after: UserCursor | None, limit: int
) -> list[User]:
    """Lists users in the order of the pool index: by project, env, domain, id."""
    rows = await session.execute(listing(chosen, scope, after=after, limit=limit))
    return [_user(row) for row in rows]


def listing(
    chosen: UserFilter, scope: Scope, *, after: UserCursor | None, limit: int
) -> Select[*tuple[Any, ...]]:
    """The statement of `list_users`."""
    statement = _select_users(scope).where(_within(scope, u)).order_by(*_KEYSET).limit(limit)
    if chosen.project_id is not None:
        # `<=` instead of `=`, because with `=` the planner would walk the whole project up to the cursor.
        after = max(after or _NOTHING, (chosen.project_id, *_NOTHING[1:]), key=lambda cursor: cursor[0])
        statement = statement.where(u.project_id <= chosen.project_id)
    if after is not None:
        statement = statement.where(tuple_(*_KEYSET) > after)
    for column, value in ((u.env, chosen.env), (u.domain, chosen.domain)):
        if value is not None:
            statement = statement.where(column == value)
    if chosen.login is not None:
        statement = statement.where(u.login_key == login_key(chosen.login))
    if chosen.labels:
        statement = statement.where(u.labels.contains(dict(chosen.labels)))
    if chosen.health is not None:
        statement = statement.where(u.health == chosen.health.value)
    if chosen.state is not None:
        statement = statement.where(literal_column(USER_STATE) == chosen.state.value)
        if chosen.state in _FOUND_BY:
            statement = statement.where(text(_FOUND_BY[chosen.state]))
    return statement


# By which index users of a state are found, because few of a pool are in it. These are texts, not parameters, because
# the planner uses an index of a part of the table only where a literal shows that all rows are in that part.
_OF_OPEN_LEASES = "SELECT unnest(user_ids) FROM leases WHERE ended_at IS NULL"
_FOUND_BY = {
    UserState.QUARANTINED: "u.status = 'quarantined'",
    UserState.RETIRED: "u.status = 'retired'",
    UserState.DIRTY: f"u.id IN (SELECT id FROM users WHERE status <> 'active' UNION ALL {_OF_OPEN_LEASES})",
    **dict.fromkeys((UserState.LEASED, UserState.HELD, UserState.CHORE), f"u.id IN ({_OF_OPEN_LEASES})"),
}


def _refused(error: IntegrityError) -> Exception:
    """The caller's error for the violated constraint, or the error itself when it is a bug."""
    match getattr(error.orig, "sqlstate", None):
        case "23505":  # unique_violation
            return UserExistsError()
        case "23503":  # foreign_key_violation: the only one is to the project
            return NoSuchProjectError()
        case _:
            return error


def _within(scope: Scope, users: type[UserRow]) -> ColumnElement[bool]:
    return in_scope(scope, project_id=users.project_id, env=users.env)


def cursor_of(user: User) -> UserCursor:
    return (user.pool.project_id, user.pool.env.value, user.pool.domain.value, user.id)


def _last_lease(scope: Scope) -> ColumnElement[Any]:
    """Id of the user's last lease. NULL if the user was in another scope at that time."""
    if scope.is_whole:
        return u.lease_id.label("lease_id")
    here = in_scope(scope, project_id=LeaseRow.project_id, env=LeaseRow.env)
    return select(LeaseRow.id).where(LeaseRow.id == u.lease_id, here).scalar_subquery().label("lease_id")


def _select_users(scope: Scope) -> Select[*tuple[Any, ...]]:
    in_force = case((u.expires_at > clock.c.now, u.expires_at))
    return (
        select(
            u.id,
            u.created_at,
            u.login,
            u.project_id,
            u.env,
            u.domain,
            u.locktime,
            u.expires_at,
            u.available_at,
            _last_lease(scope),
            u.labels,
            literal_column(STATUS).label("status"),
            u.status_reason,
            u.status_since,
            u.status_by,
            u.status_until,
            u.health,
            u.health_reason,
            u.checked_at,
            u.healthy_at,
            u.failures,
            u.rotated_at,
            u.pending_password.is_not(None).label("is_rotating"),
            u.session_expires_at,
            u.secrets.is_not(None).label("has_secrets"),
            u.totp_seed.is_not(None).label("has_totp"),
            literal_column(USER_STATE).label("state"),
            (u.expires_at > clock.c.now).label("locked"),
            func.extract("epoch", func.coalesce(in_force, u.available_at) - clock.c.now).label("busy_for"),
        )
        .join(p, p.id == u.project_id)
        .join(clock, true())
    )


def _user(row: Row[Any]) -> User:
    state, status = UserState(row.state), UserStatus(row.status)
    return User(
        id=row.id,
        created_at=row.created_at,
        login=row.login,
        pool=Pool(row.project_id, Env(row.env), Domain(row.domain)),
        state=state,
        locktime=row.locktime if row.locked else None,
        expires_at=row.expires_at if row.locked else None,
        busy_for=max(0.0, round(float(row.busy_for), 3))
        if row.locked or state is UserState.RESTING
        else None,
        available_at=row.available_at,
        lease_id=row.lease_id,
        labels=row.labels,
        status=status,
        status_reason=row.status_reason if status is not UserStatus.ACTIVE else None,
        status_since=row.status_since if status is not UserStatus.ACTIVE else None,
        status_by=row.status_by if status is not UserStatus.ACTIVE else None,
        status_until=row.status_until if status is UserStatus.QUARANTINED else None,
        health=Health(row.health),
        health_reason=row.health_reason,
        checked_at=row.checked_at,
        healthy_at=row.healthy_at,
        failures=row.failures,
        rotated_at=row.rotated_at,
        is_rotating=row.is_rotating,
        session_expires_at=row.session_expires_at,
        has_secrets=row.has_secrets,
        has_totp=row.has_totp,
    )
