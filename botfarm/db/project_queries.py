from collections.abc import Collection
from dataclasses import asdict
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.tables import ProjectRow
from botfarm.domain import LeasePolicy, Project, ProjectChanges
from botfarm.errors import ProjectExistsError, ProjectInUseError


async def insert_project(
    session: AsyncSession, *, project_id: UUID, name: str, policy: LeasePolicy
) -> Project:
    """Raises ProjectExistsError when the id or the name is taken."""
    row = ProjectRow(
        id=project_id,
        name=name,
        default_ttl=policy.default_ttl,
        max_ttl=policy.max_ttl,
        max_hold=policy.max_hold,
        lock_delay=policy.lock_delay,
        cooldown=policy.cooldown,
    )
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


async def existing_projects(session: AsyncSession, ids: Collection[UUID]) -> set[UUID]:
    """Those of the ids that are projects."""
    any_of_them = ProjectRow.id == func.any(bindparam("ids", list(ids), ARRAY(Uuid())))
    return set(await session.scalars(select(ProjectRow.id).where(any_of_them)))


async def list_projects(session: AsyncSession) -> list[Project]:
    return [_project(row) for row in await session.scalars(select(ProjectRow).order_by(ProjectRow.name))]


async def get_project(session: AsyncSession, project_id: UUID) -> Project | None:
    row = await session.get(ProjectRow, project_id)
    return _project(row) if row else None


async def find_project(session: AsyncSession, name: str) -> Project | None:
    row = await session.scalar(select(ProjectRow).where(ProjectRow.name == name))
    return _project(row) if row else None


def _project(row: ProjectRow) -> Project:
    policy = LeasePolicy(
        default_ttl=row.default_ttl,
        max_ttl=row.max_ttl,
        max_hold=row.max_hold,
        lock_delay=row.lock_delay,
        cooldown=row.cooldown,
    )
    return Project(id=row.id, created_at=row.created_at, name=row.name, policy=policy)
