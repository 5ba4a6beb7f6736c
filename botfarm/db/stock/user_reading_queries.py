from collections.abc import Collection, Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Row,
    Select,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
    text,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from botfarm.db.shared.scope_filter import in_scope
from botfarm.db.shared.tables import LeaseRow, ProjectRow, UserRow
from botfarm.db.shared.user_state import STATUS, USER_STATE
from botfarm.domain.access import Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.health import Health
from botfarm.domain.logins import login_key, parts_of_keys
from botfarm.domain.pools import Pool
from botfarm.domain.users import User, UserFilter, UserState, UserStatus

u, p = aliased(UserRow, name="u"), aliased(ProjectRow, name="p")
clock = select(func.clock_timestamp().label("now")).subquery("c")  # as USER_STATE wants it
# A list is paged by the columns of the pool index, so the cost of a page depends only on its rows.
_KEYSET = (u.project_id, u.env, u.domain, u.id)
UserCursor = tuple[UUID, str, str, UUID]


async def get_user(session: AsyncSession, user_id: UUID, scope: Scope) -> User | None:
    statement = _select_users(scope).where(u.id == user_id)
    row = (await session.execute(statement)).one_or_none()
    return _user(row) if row else None


async def find_user(
    session: AsyncSession, project_id: UUID, env: str, login: str
) -> tuple[UUID, Pool] | None:
    """The id and the pool of the user that has this login, as its normal form has it."""
    statement = select(u.id, u.domain).where(
        u.project_id == project_id, u.env == env, u.login_key == login_key(login)
    )
    row = (await session.execute(statement)).one_or_none()
    return (row.id, Pool(project_id, env, row.domain)) if row else None


async def sealed_credentials(
    session: AsyncSession, ids: Collection[UUID], scope: Scope
) -> dict[UUID, SealedCredentials]:
    """By user. The rotation that is under way is left out: only its keeper knows whether it is the password."""
    within_scope = in_scope(scope, project_id=u.project_id, env=u.env)
    statement = select(u.id, u.password, u.secrets, u.totp_seed).where(u.id.in_(ids), within_scope)
    rows = await session.execute(statement)
    return {row.id: SealedCredentials(row.password, row.secrets, row.totp_seed) for row in rows}


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
    statement = _select_users(scope).where(*_conditions(chosen)).order_by(*_KEYSET).limit(limit)
    later = _later(chosen, after)
    by_index, by_leases = _FOUND_BY.get(chosen.state, ("true", None))
    pages = []
    if by_index:
        pages.append(statement.where(later, text(by_index)))
    if by_leases:
        # Few users have such a lease, and the planner expects few behind any cursor. So it might walk the pool.
        pages.append(statement.where(_opaque(later), text(by_leases)))
    return pages[0] if len(pages) == 1 else _in_order(pages, limit)


def _later(chosen: UserFilter, after: UserCursor | None) -> ColumnElement[bool]:
    """The condition on rows behind the cursor.

    In one project it leaves the project's column out. With it the planner would expect few rows that are in this
    project and, by one comparison of all columns, behind a cursor in it.
    """
    if after is None:
        return true()
    if chosen.project_id is None or chosen.project_id != after[0]:
        return tuple_(*_KEYSET) > after
    return tuple_(*_KEYSET[1:]) > after[1:]


def _conditions(chosen: UserFilter) -> Iterator[ColumnElement[bool]]:
    if chosen.project_id is not None:
        yield u.project_id == chosen.project_id
    if chosen.env is not None:
        yield u.env == chosen.env
    if chosen.domain is not None:
        yield u.domain == chosen.domain
    if chosen.login is not None:
        yield u.login_key == login_key(chosen.login)
    if chosen.search is not None:
        yield or_(*_contains(chosen.search))
    if chosen.labels:
        yield u.labels.contains(dict(chosen.labels))
    if chosen.health is not None:
        yield literal_column(f"u.health = '{chosen.health}'", Boolean)
    if chosen.state is not None:
        yield _opaque(literal_column(USER_STATE) == chosen.state.value)


def _contains(part: str) -> Iterator[ColumnElement[bool]]:
    """Also the login as typed, because ACE hides a part of a label: `bü` is not in `xn--bcher-kva`."""
    for each in sorted(parts_of_keys(part)):
        yield u.login_key.contains(each, autoescape=True)
    yield u.login.contains(part, autoescape=True)


def _opaque(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """The condition in a form that the planner finds in no index, and expects half of the rows to meet.

    Of `state = …` it would expect one row in two hundred, and start parallel workers to find a page of free users.
    """
    return case((condition, true()), else_=false())


def _in_order(pages: list[Select[*tuple[Any, ...]]], limit: int) -> Select[*tuple[Any, ...]]:
    """The first rows of pages that have no row in common."""
    found = union_all(*(select(page.subquery()) for page in pages)).subquery()
    return select(found).order_by(*(found.c[column.key] for column in _KEYSET)).limit(limit)


# How users of a state are found without a walk through their pool: by an index in the order of a page, or by their
# leases. These and the health are texts, not parameters, because the planner uses an index of a part of the table only
# where a literal shows that all rows are in that part.
_OF_OPEN_LEASES = "SELECT unnest(user_ids) FROM leases WHERE ended_at IS NULL"
_FOUND_BY: dict[UserState | None, tuple[str | None, str | None]] = {
    UserState.QUARANTINED: ("u.status = 'quarantined'", None),
    UserState.RETIRED: ("u.status = 'retired'", None),
    UserState.DIRTY: (
        "(u.status = 'dirty' OR (u.status = 'quarantined' AND u.status_until IS NOT NULL))",
        f"u.status = 'active' AND u.id IN ({_OF_OPEN_LEASES} AND expires_at <= (SELECT clock_timestamp()))",
    ),
    **dict.fromkeys(
        (UserState.LEASED, UserState.HELD, UserState.CHORE), (None, f"u.id IN ({_OF_OPEN_LEASES})")
    ),
}


def cursor_of(user: User) -> UserCursor:
    return (user.pool.project_id, user.pool.env, user.pool.domain, user.id)


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
            u.managed_by,
            literal_column(USER_STATE).label("state"),
            (u.expires_at > clock.c.now).label("locked"),
            func.extract("epoch", func.coalesce(in_force, u.available_at) - clock.c.now).label("busy_for"),
        )
        .join(p, p.id == u.project_id)
        .join(clock, true())
        .where(in_scope(scope, project_id=u.project_id, env=u.env))
    )


def _user(row: Row[Any]) -> User:
    state, status = UserState(row.state), UserStatus(row.status)
    return User(
        id=row.id,
        created_at=row.created_at,
        login=row.login,
        pool=Pool(row.project_id, row.env, row.domain),
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
        managed_by=row.managed_by,
    )
