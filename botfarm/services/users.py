from collections.abc import Mapping
from uuid import UUID, uuid4

from botfarm.credentials import KeyRing
from botfarm.db import user_queries
from botfarm.db.engine import Database
from botfarm.db.user_queries import NewUser, UserCursor
from botfarm.domain import Page, Pool, User, UserFilter
from botfarm.errors import NoSuchUserError, UserExistsError
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
            return _existing(await user_queries.get_user(session, user_id))

    async def list(self, chosen: UserFilter, *, cursor: str | None, limit: int) -> Page[User]:
        after = _decode(cursor) if cursor else None
        async with self._database.autocommit() as session:
            users = await user_queries.list_users(session, chosen, after=after, limit=limit + 1)
        more = len(users) > limit
        page = tuple(users[:limit])
        return Page(page, encode_cursor(*user_queries.cursor_of(page[-1])) if more else None)


def _existing(user: User | None) -> User:
    if user is None:
        raise NoSuchUserError
    return user


def _decode(cursor: str) -> UserCursor:
    project_id, env, domain, user_id = decode_cursor(cursor, 4)
    try:
        return UUID(project_id), env, domain, UUID(user_id)
    except ValueError:
        raise invalid_cursor() from None
