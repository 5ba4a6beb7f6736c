from collections.abc import Collection
from dataclasses import asdict, fields
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, bindparam, delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import in_scope
from botfarm.db.shared.tables import ProjectRow
from botfarm.domain.access import Scope
from botfarm.domain.projects import Project, ProjectChanges, ProjectPolicy
from botfarm.errors import ProjectExistsError, ProjectInUseError


async def insert_project(
    session: AsyncSession,
    *,
    project_id: UUID,
    name: str,
    policy: ProjectPolicy,
    managed_by: str | None = None,
) -> Project:
    """Raises ProjectExistsError when the id or the name is taken."""
    row = ProjectRow(id=project_id, name=name, managed_by=managed_by, **asdict(policy))
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise ProjectExistsError from None
    return _project(row)


async def update_project(session: AsyncSession, project_id: UUID, changes: ProjectChanges) -> Project | None:
    """None when there is no such project. Raises ProjectExistsError when the name is taken."""
    row = await session.get(ProjectRow, project_id, with_for_update=True)
    if row is None:
        return None
    for column, value in asdict(changes).items():
        if value is not None:
            setattr(row, column, value)
    try:
        await session.flush()
    except IntegrityError:
        raise ProjectExistsError from None
    return _project(row)


async def delete_project(session: AsyncSession, project_id: UUID) -> bool:
    """False when there is no such project. Raises ProjectInUseError when it has users."""
    try:
        deleted = await session.scalar(
            delete(ProjectRow).where(ProjectRow.id == project_id).returning(ProjectRow.id)
        )
    except IntegrityError:
        raise ProjectInUseError from None
    return deleted is not None


async def existing_projects(session: AsyncSession, ids: Collection[UUID], scope: Scope) -> set[UUID]:
    """Those of the ids that are projects of the scope."""
    any_of_them = ProjectRow.id == func.any(bindparam("ids", list(ids), ARRAY(Uuid())))
    return set(await session.scalars(select(ProjectRow.id).where(any_of_them, _within(scope))))


async def list_projects(session: AsyncSession, scope: Scope) -> list[Project]:
    rows = await session.scalars(select(ProjectRow).where(_within(scope)).order_by(ProjectRow.name))
    return [_project(row) for row in rows]


async def get_project(session: AsyncSession, project_id: UUID, scope: Scope) -> Project | None:
    row = await session.scalar(select(ProjectRow).where(ProjectRow.id == project_id, _within(scope)))
    return _project(row) if row else None


async def find_projects(session: AsyncSession, ids_and_names: Collection[UUID | str]) -> list[Project]:
    ids = [each for each in ids_and_names if isinstance(each, UUID)]
    names = [each for each in ids_and_names if isinstance(each, str)]
    rows = await session.scalars(
        select(ProjectRow).where(or_(ProjectRow.id.in_(ids), ProjectRow.name.in_(names)))
    )
    return [_project(row) for row in rows]


def _within(scope: Scope) -> ColumnElement[bool]:
    return in_scope(scope, project_id=ProjectRow.id)


def _project(row: ProjectRow) -> Project:
    policy = ProjectPolicy(**{field.name: getattr(row, field.name) for field in fields(ProjectPolicy)})
    return Project(
        id=row.id, created_at=row.created_at, name=row.name, policy=policy, managed_by=row.managed_by
    )
