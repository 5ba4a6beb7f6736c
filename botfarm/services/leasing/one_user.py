"""Finds the one user that a request asks for by its login, and says why it cannot have it."""

from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_reading_queries
from botfarm.domain.leases import LeaseRequest
from botfarm.domain.pools import Pool
from botfarm.domain.users import UserState
from botfarm.errors import NoSuchUserError
from botfarm.services.stock.users import not_in_service


class OneUser:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, project_id: UUID, env: str, login: str) -> tuple[UUID, Pool]:
        """The user's id and its pool. Logins are compared by their normal form. Raises NoSuchUserError."""
        async with self._database.autocommit() as session:
            found = await user_reading_queries.find_user(session, project_id, env, login)
        if found is None:
            raise NoSuchUserError("No user of this project and env has this login: check the spelling.")
        return found

    async def check(self, request: LeaseRequest, user_id: UUID, *, free_in: float | None) -> None:
        """Raises what stands in the way of a grant, unless it may be gone before the wait is over.

        `free_in`: seconds until time alone frees the user; None when it never does.
        Raises NoSuchUserError, UserDirtyError, UserQuarantinedError, UserRetiredError.
        """
        async with self._database.autocommit() as session:
            user = await user_reading_queries.get_user(session, user_id, request.principal.scope)
        if user is None:
            raise NoSuchUserError
        error = not_in_service(user)
        is_cleaned_soon = user.state is UserState.DIRTY and request.wait_seconds > 0
        is_free_soon = free_in is not None and free_in <= request.wait_seconds
        if error is not None and not is_cleaned_soon and not is_free_soon:
            raise error
