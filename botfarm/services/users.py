from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.credentials import KeyRing
from botfarm.db import lease_queries, user_queries
from botfarm.db.engine import Database
from botfarm.db.tables import UserRow
from botfarm.db.user_queries import NewUser, UserCursor
from botfarm.domain import Domain, Env, Page, Pool, User, UserChanges, UserFilter
from botfarm.errors import NoSuchUserError, UserBusyError, UserExistsError
from botfarm.services.cursors import decode_cursor, encode_cursor, invalid_cursor


class Users:
    def __init__(self, database: Database, key_ring: KeyRing) -> None:
        self._database = database
        self._key_ring = key_ring

    async def create(self, *, login: str, password: str, pool: Pool, labels: Mapping[str, str]) -> User:
        """Raises NoSuchProjectError, UserExistsError."""
        user_id = uuid4()
        encrypted = self._key_ring.encrypt(password, row_id=user_id, field="password")
        new = NewUser(user_id, login, encrypted, pool, labels)
        async with self._database.transaction() as session:
            if not await user_queries.insert_user(session, new):
                raise UserExistsError
            user = await user_queries.get_user(session, user_id)
        return _existing(user)

    async def get(self, user_id: UUID) -> User:
        async with self._database.autocommit() as session:
            return await _with_last_lease(session, user_id)

    async def update(self, user_id: UUID, changes: UserChanges) -> User:
        """Raises NoSuchUserError, UserExistsError, NoSuchProjectError; UserBusyError for a move under a live lease."""
        encrypted = (
            self._key_ring.encrypt(changes.password, row_id=user_id, field="password")
            if changes.password
            else None
        )
        async with self._database.transaction() as session:
            locked = await user_queries.lock_user(session, user_id)
            if locked is None:
                raise NoSuchUserError
            row, is_live = locked
            if is_live and _moves(changes, row):
                raise busy(_existing(await user_queries.get_user(session, user_id)))
            await user_queries.update_user(session, row, changes, encrypted_password=encrypted)
            return await _with_last_lease(session, user_id)

    async def delete(self, user_id: UUID) -> None:
        """Its history stays. Raises NoSuchUserError; UserBusyError while a lease is live."""
        async with self._database.autocommit() as session:
            if await user_queries.delete_user(session, user_id):
                return
            raise busy(_existing(await user_queries.get_user(session, user_id)))

    async def list(self, chosen: UserFilter, *, cursor: str | None, limit: int) -> Page[User]:
        after = _decode(cursor) if cursor else None
        async with self._database.autocommit() as session:
            users = await user_queries.list_users(session, chosen, after=after, limit=limit + 1)
        more = len(users) > limit
        page = tuple(users[:limit])
        return Page(page, encode_cursor(*user_queries.cursor_of(page[-1])) if more else None)


def busy(user: User) -> UserBusyError:
    """Says when the lease expires or, for a user that rests, when it may be had again."""
    return UserBusyError(locktime=user.locktime, expires_in=round(user.busy_for or 0, 3))


async def _with_last_lease(session: AsyncSession, user_id: UUID) -> User:
    user = _existing(await user_queries.get_user(session, user_id))
    last = await lease_queries.get_lease(session, user.lease_id) if user.lease_id else None
    return replace(user, last_lease=last)


def _moves(changes: UserChanges, row: UserRow) -> bool:
    there = (changes.project_id or row.project_id, changes.env or row.env, changes.domain or row.domain)
    return there != (row.project_id, row.env, row.domain)


def _existing(user: User | None) -> User:
    if user is None:
        raise NoSuchUserError
    return user


def _decode(cursor: str) -> UserCursor:
    project_id, env, domain, user_id = decode_cursor(cursor, 4)
    try:
        return UUID(project_id), Env(env), Domain(domain), UUID(user_id)
    except ValueError:
        raise invalid_cursor() from None
