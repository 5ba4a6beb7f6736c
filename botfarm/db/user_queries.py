from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, literal_column, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from botfarm.db.tables import UserRow
from botfarm.db.user_state import USER_STATE
from botfarm.domain import Domain, Env, Pool, User, UserFilter, UserState, UserStatus
from botfarm.errors import NoSuchProjectError

u = aliased(UserRow, name="u")
clock = select(func.clock_timestamp().label("now")).subquery("c")  # as USER_STATE wants it
# The keyset of a list is the pool index itself, so a page costs what it shows.
_KEYSET = (u.project_id, u.env, u.domain, u.id)
UserCursor = tuple[UUID, str, str, UUID]


@dataclass(frozen=True, slots=True)
class NewUser:
    id: UUID
    login: str
    encrypted_password: str
    pool: Pool
    labels: Mapping[str, str]


async def insert_user(session: AsyncSession, new: NewUser) -> bool:
    """False when the project and env have a user of this login already. Raises NoSuchProjectError."""
    statement = insert(UserRow).values(
        id=new.id,
        login=new.login,
        password=new.encrypted_password,
        project_id=new.pool.project_id,
        env=new.pool.env.value,
        domain=new.pool.domain.value,
        labels=dict(new.labels),
    )
    try:
        inserted = await session.scalar(statement.on_conflict_do_nothing().returning(UserRow.id))
    except IntegrityError:  # the only foreign key
        raise NoSuchProjectError from None
    return inserted is not None


async def get_user(session: AsyncSession, user_id: UUID) -> User | None:
    row = (await session.execute(_select_users().where(u.id == user_id))).one_or_none()
    return _user(row) if row else None


async def list_users(
    session: AsyncSession, chosen: UserFilter, *, after: UserCursor | None, limit: int
) -> list[User]:
    """In the order of the pool index: by project, env, domain, id."""
    statement = _select_users().order_by(*_KEYSET).limit(limit)
    if after is not None:
        statement = statement.where(tuple_(*_KEYSET) > after)
    for column, value in ((u.project_id, chosen.project_id), (u.env, chosen.env), (u.domain, chosen.domain)):
        if value is not None:
            statement = statement.where(column == value)
    if chosen.login is not None:
        statement = statement.where(func.lower(u.login) == chosen.login.lower())
    if chosen.labels:
        statement = statement.where(u.labels.contains(dict(chosen.labels)))
    if chosen.state is not None:
        statement = statement.where(literal_column(USER_STATE) == chosen.state.value)
    return [_user(row) for row in await session.execute(statement)]


def cursor_of(user: User) -> UserCursor:
    return (user.pool.project_id, user.pool.env.value, user.pool.domain.value, user.id)


def _select_users() -> Select[*tuple[Any, ...]]:
    return select(
        u.id,
        u.created_at,
        u.login,
        u.project_id,
        u.env,
        u.domain,
        u.locktime,
        u.expires_at,
        u.available_at,
        u.lease_id,
        u.labels,
        u.status,
        u.status_reason,
        u.status_since,
        literal_column(USER_STATE).label("state"),
        (u.expires_at > clock.c.now).label("locked"),
        func.extract("epoch", u.available_at - clock.c.now).label("busy_for"),
    ).join(clock, true())


def _user(row: Row[Any]) -> User:
    state = UserState(row.state)
    return User(
        id=row.id,
        created_at=row.created_at,
        login=row.login,
        pool=Pool(row.project_id, Env(row.env), Domain(row.domain)),
        state=state,
        locktime=row.locktime if row.locked else None,
        expires_at=row.expires_at if row.locked else None,
        busy_for=float(row.busy_for) if state in {UserState.LEASED, UserState.RESTING} else None,
        available_at=row.available_at,
        lease_id=row.lease_id,
        labels=row.labels,
        status=UserStatus(row.status),
        status_reason=row.status_reason,
        status_since=row.status_since,
    )
