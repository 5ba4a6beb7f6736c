from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.tables import ProjectRow
from botfarm.domain import LeasePolicy, Project
from botfarm.errors import ProjectExistsError


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
