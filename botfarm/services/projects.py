from uuid import UUID, uuid4

from botfarm.db import project_queries
from botfarm.db.engine import Database
from botfarm.domain import LeasePolicy, Project, ProjectChanges
from botfarm.errors import NoSuchProjectError


class Projects:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, *, project_id: UUID | None, name: str, policy: LeasePolicy) -> Project:
        """Raises ProjectExistsError when the id or the name is taken."""
        async with self._database.transaction() as session:
            return await project_queries.insert_project(
                session, project_id=project_id or uuid4(), name=name, policy=policy
            )

    async def update(self, project_id: UUID, changes: ProjectChanges) -> Project:
        """Leases under way keep what they were granted. Raises NoSuchProjectError, ProjectExistsError."""
        async with self._database.transaction() as session:
            return _existing(await project_queries.update_project(session, project_id, changes))

    async def delete(self, project_id: UUID) -> None:
        """Its history stays. Raises NoSuchProjectError, ProjectInUseError."""
        async with self._database.transaction() as session:
            if not await project_queries.delete_project(session, project_id):
                raise NoSuchProjectError

    async def list(self) -> list[Project]:
        async with self._database.autocommit() as session:
            return await project_queries.list_projects(session)

    async def get(self, project_id: UUID) -> Project:
        async with self._database.autocommit() as session:
            return _existing(await project_queries.get_project(session, project_id))

    async def look_up(self, id_or_name: UUID | str) -> Project:
        return await (self.get(id_or_name) if isinstance(id_or_name, UUID) else self.find(id_or_name))

    async def find(self, name: str) -> Project:
        async with self._database.autocommit() as session:
            return _existing(await project_queries.find_project(session, name))


def _existing(project: Project | None) -> Project:
    if project is None:
        raise NoSuchProjectError
    return project
