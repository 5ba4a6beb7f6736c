"""Finds the scope for names of projects and envs, and describes a scope for the audit."""

from collections.abc import Collection
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import project_queries
from botfarm.domain.access import Scope

ALL = "*"


async def find_scope(
    database: Database,
    projects: Collection[UUID | str] | None,
    envs: Collection[str] | None,
    *,
    within: Scope,
) -> tuple[Scope, list[UUID | str]]:
    """The scope of these projects (by id or name, None for all) and envs, and the projects that are missing.

    Projects outside of `within` count as missing.
    """
    chosen_envs = None if envs is None else frozenset(envs)
    if projects is None:
        return Scope(None, chosen_envs), []
    async with database.autocommit() as session:
        found = await project_queries.find_projects(session, projects)
    known = [project for project in found if within.has_project(project.id)]
    names: set[UUID | str] = {name for project in known for name in (project.id, project.name)}
    missing = [project for project in projects if project not in names]
    return Scope(frozenset(project.id for project in known), chosen_envs), missing


def scope_details(scope: Scope) -> dict[str, object]:
    return {
        "projects": [ALL] if scope.projects is None else sorted(map(str, scope.projects)),
        "envs": [ALL] if scope.envs is None else sorted(scope.envs),
    }
