"""A principal's scope as a condition of SQL. Rows outside of it are as if they did not exist."""

from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, true
from sqlalchemy.orm import InstrumentedAttribute

from botfarm.domain.access import Scope


def within(alias: str) -> str:
    """A condition on `project_id` and `env` of the rows of `alias`.

    Its parameters come from `scope_parameters`.
    """
    return f"""(CAST(:scope_projects AS uuid[]) IS NULL
           OR {alias}.project_id = ANY (CAST(:scope_projects AS uuid[])))
      AND (CAST(:scope_envs AS text[]) IS NULL OR {alias}.env = ANY (CAST(:scope_envs AS text[])))"""


def scope_parameters(scope: Scope) -> dict[str, object]:
    return {"scope_projects": project_list(scope), "scope_envs": env_list(scope)}


def in_scope(
    scope: Scope, *, project_id: InstrumentedAttribute[UUID], env: InstrumentedAttribute[str] | None = None
) -> ColumnElement[bool]:
    conditions: list[ColumnElement[Any]] = [true()]
    if scope.projects is not None:
        conditions.append(project_id.in_(scope.projects))
    if scope.envs is not None and env is not None:
        conditions.append(env.in_(scope.envs))
    return and_(*conditions)


def project_list(scope: Scope) -> list[UUID] | None:
    return None if scope.projects is None else sorted(scope.projects)


def env_list(scope: Scope) -> list[str] | None:
    return None if scope.envs is None else sorted(scope.envs)


def scope_of(projects: list[UUID] | None, envs: list[str] | None) -> Scope:
    return Scope(
        projects=None if projects is None else frozenset(projects),
        envs=None if envs is None else frozenset(envs),
    )
