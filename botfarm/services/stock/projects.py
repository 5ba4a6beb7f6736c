from collections.abc import Collection, Mapping
from dataclasses import asdict
from uuid import UUID, uuid4

from botfarm.db.access import audit_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import project_queries
from botfarm.domain.access import Principal, Scope
from botfarm.domain.pools import Pool
from botfarm.domain.projects import (
    DEFAULT_DOMAINS,
    DEFAULT_ENVS,
    Project,
    ProjectChanges,
    ProjectPolicy,
)
from botfarm.errors import ForbiddenError, NoSuchPoolError, NoSuchProjectError
from botfarm.services.shared.ttl_cache import TtlCache


class Projects:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._known = TtlCache[UUID | str, Project](self._load)

    async def create(
        self,
        principal: Principal,
        *,
        project_id: UUID | None,
        name: str,
        envs: Collection[str] = DEFAULT_ENVS,
        domains: Collection[str] = DEFAULT_DOMAINS,
        policy: ProjectPolicy,
    ) -> Project:
        """Raises ProjectExistsError for a taken id or name, ForbiddenError unless the scope is whole."""
        _require_everything(principal.scope, "A new project")
        async with self._database.transaction() as session:
            project = await project_queries.insert_project(
                session,
                project_id=project_id or uuid4(),
                name=name,
                envs=envs,
                domains=domains,
                policy=policy,
            )
            await audit_queries.record(
                session,
                principal,
                "create_project",
                target="project",
                target_id=project.id,
                project_id=project.id,
                details={
                    "name": name,
                    "envs": project.envs,
                    "domains": project.domains,
                    **asdict(policy),
                },
            )
        return project

    async def update(self, principal: Principal, project_id: UUID, changes: ProjectChanges) -> Project:
        """Changes a project. Live leases keep what they were granted.

        Raises NoSuchProjectError, ProjectExistsError, ForbiddenError; ProjectInUseError when an env or a domain
        with users would go.
        """
        _require_whole_project(principal.scope, project_id)
        if changes.name is not None:
            _require_everything(principal.scope, "A project's new name")
        async with self._database.transaction() as session:
            project = _existing(await project_queries.update_project(session, project_id, changes))
            await audit_queries.record(
                session,
                principal,
                "update_project",
                target="project",
                target_id=project_id,
                project_id=project_id,
                details={name: value for name, value in asdict(changes).items() if value is not None},
            )
        self.forget(project_id)
        return project

    async def delete(self, principal: Principal, project_id: UUID) -> None:
        """Its history stays. Raises NoSuchProjectError, ProjectInUseError, ForbiddenError."""
        _require_whole_project(principal.scope, project_id)
        async with self._database.transaction() as session:
            if not await project_queries.delete_project(session, project_id):
                raise NoSuchProjectError
            await audit_queries.record(
                session,
                principal,
                "delete_project",
                target="project",
                target_id=project_id,
                project_id=project_id,
            )
        self.forget(project_id)

    async def list(self, scope: Scope) -> list[Project]:
        async with self._database.autocommit() as session:
            projects = await project_queries.list_projects(session, scope)
        return [project.within(scope) for project in projects]

    async def get(self, scope: Scope, project_id: UUID) -> Project:
        async with self._database.autocommit() as session:
            project = await project_queries.get_project(session, project_id, scope)
        return _existing(project).within(scope)

    async def look_up(self, scope: Scope, id_or_name: UUID | str) -> Project:
        """A project by id or name, from a cache that is seconds old at most. Raises NoSuchProjectError."""
        known = self._known.peek(id_or_name)
        if known is not None and scope.has_project(known.id):
            return known
        # A project outside of the scope takes as long as one that does not exist. A new project is found at
        # once.
        project = await self._known.look_up(id_or_name)
        if project is None or not scope.has_project(project.id):
            raise NoSuchProjectError
        return project

    async def look_up_pool(
        self, scope: Scope, id_or_name: UUID | str, env: str, domain: str | None
    ) -> tuple[Project, Pool]:
        """A project and its pool, from the same cache. Without a domain: the project's first.

        Raises NoSuchProjectError, NoSuchPoolError.
        """
        project = await self.look_up(scope, id_or_name)
        if not scope.has_env(env):
            raise NoSuchPoolError
        if project.lacking(env, domain or project.default_domain):
            # A new env or domain is found at once, as a new project is.
            project = _existing(await self._known.look_up(project.id))
        pool = Pool(project.id, env, domain or project.default_domain)
        if project.lacking(env, pool.domain):
            raise NoSuchPoolError
        return project, pool

    async def refresh(self) -> None:
        """Reads all projects in use with one query, so that requests need none."""
        await self._known.refresh()

    def forget(self, project_id: UUID) -> None:
        """Forgets what the cache has of a project that was changed, under its id and every name it had."""
        self._known.forget_values(lambda project: project.id == project_id)

    async def _load(self, keys: Collection[UUID | str]) -> Mapping[UUID | str, Project]:
        async with self._database.autocommit() as session:
            found = await project_queries.find_projects(session, keys)
        by_key: dict[UUID | str, Project] = {project.id: project for project in found}
        return by_key | {project.name: project for project in found}


def _require_whole_project(scope: Scope, project_id: UUID) -> None:
    if not scope.has_project(project_id):
        raise NoSuchProjectError
    if scope.envs is not None:
        raise ForbiddenError("A project is for all envs, and your scope has some of them only.")


def _require_everything(scope: Scope, what: str) -> None:
    """Raises ForbiddenError unless the scope is whole.

    A conflict would show the name of a project outside of the scope.
    """
    if not scope.is_whole:
        raise ForbiddenError(f"{what} needs a scope of all projects and envs.")


def _existing(project: Project | None) -> Project:
    if project is None:
        raise NoSuchProjectError
    return project
