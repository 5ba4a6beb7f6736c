"""Exports users, page by page: to look at them elsewhere, or with their credentials to move them."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import KeyRing
from botfarm.db.access import audit_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import user_reading_queries
from botfarm.domain.access import Principal, Role
from botfarm.domain.credentials import ClearCredentials, SealedCredentials
from botfarm.domain.paging import Page
from botfarm.domain.users import ExportedUser, User, UserFilter
from botfarm.errors import ForbiddenError
from botfarm.services.stock.projects import Projects
from botfarm.services.stock.sealing import open_credentials
from botfarm.services.stock.users import Users


class Exporting:
    def __init__(self, database: Database, key_ring: KeyRing, users: Users, projects: Projects) -> None:
        self._database = database
        self._key_ring = key_ring
        self._users = users
        self._projects = projects

    async def export_users(
        self,
        principal: Principal,
        chosen: UserFilter,
        *,
        with_credentials: bool,
        cursor: str | None,
        limit: int,
    ) -> Page[ExportedUser]:
        """A page of the users that match, without retired ones unless they are asked for.

        Credentials are for admins, and the audit says whose pools they were of, how many, and by which filter.
        Raises ForbiddenError, KeyMissingError.
        """
        if with_credentials and not principal.role.includes(Role.ADMIN):
            raise ForbiddenError(f"An export with credentials needs the role {Role.ADMIN}.")
        page = await self._users.list(principal.scope, chosen, cursor=cursor, limit=limit)
        users = [user for user in page.items if chosen.state or not user.is_retired]
        credentials = await self._credentials(principal, users, chosen) if with_credentials else {}
        names = {project.id: project.name for project in await self._projects.list(principal.scope)}
        exported = [
            ExportedUser(user, names[user.pool.project_id], credentials.get(user.id))
            for user in users
            if user.pool.project_id in names and (user.id in credentials or not with_credentials)
        ]
        return Page(tuple(exported), page.next_cursor)

    async def _credentials(
        self, principal: Principal, users: list[User], chosen: UserFilter
    ) -> Mapping[UUID, ClearCredentials]:
        """Of those users that are there still."""
        async with self._database.transaction() as session:
            sealed = await user_reading_queries.sealed_credentials(
                session, [user.id for user in users], principal.scope
            )
            # In a thread, because a page may have tens of megabytes.
            opened = await asyncio.to_thread(self._opened, sealed)
            await _record(session, principal, [user for user in users if user.id in opened], chosen)
        return opened

    def _opened(self, sealed: Mapping[UUID, SealedCredentials]) -> dict[UUID, ClearCredentials]:
        return {user_id: open_credentials(self._key_ring, user_id, each) for user_id, each in sealed.items()}


async def _record(session: AsyncSession, principal: Principal, users: list[User], chosen: UserFilter) -> None:
    """One entry for each pool of the page."""
    asked = {name: value for name, value in asdict(chosen).items() if value}
    for pool, count in Counter(user.pool for user in users).items():
        await audit_queries.record(
            session,
            principal,
            "export_users",
            target="project",
            target_id=pool.project_id,
            project_id=pool.project_id,
            env=pool.env,
            details={"domain": pool.domain, "exported": count, "credentials": True, "filter": asked},
        )
