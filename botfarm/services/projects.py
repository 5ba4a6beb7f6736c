from uuid import UUID, uuid4

from botfarm.db import project_queries
from botfarm.db.engine import Database
from botfarm.domain import LeasePolicy, Project
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

    async def list(self) -> list[Project]:
        async with self._database.autocommit() as session:
            return await project_queries.list_projects(session)

    async def get(self, project_id: UUID) -> Project:
        async with self._database.autocommit() as session:
            project = await project_queries.get_project(session, project_id)
        if project is None:
            raise NoSuchProjectError
        return project

    async def find(self, name: str) -> Project:
        async with self._database.autocommit() as session:
            project = await project_queries.find_project(session, name)
        if project is None:
            raise NoSuchProjectError
        return project
