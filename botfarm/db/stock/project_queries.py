from collections.abc import Collection
from dataclasses import asdict, fields
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, bindparam, delete, func, or_, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import in_scope
from botfarm.db.shared.tables import ProjectRow
from botfarm.domain.access import Scope
from botfarm.domain.logins import Logins
from botfarm.domain.projects import Cleaning, Project, ProjectChanges, ProjectPolicy
from botfarm.errors import ProjectExistsError, ProjectInUseError

IN_USE = text("""
    SELECT 'env' AS kind, gone.name FROM unnest(CAST(:envs AS text[])) AS gone (name)
    WHERE EXISTS (SELECT FROM users AS u WHERE u.project_id = :project_id AND u.env = gone.name)
    UNION ALL
    SELECT 'domain', gone.name FROM unnest(CAST(:domains AS text[])) AS gone (name)
    WHERE EXISTS (SELECT FROM users AS u WHERE u.project_id = :project_id AND u.domain = gone.name)""")


async def insert_project(
    session: AsyncSession,
    *,
    project_id: UUID,
    name: str,
    envs: Collection[str],
    domains: Collection[str],
    policy: ProjectPolicy,
    managed_by: str | None = None,
) -> Project:
    """Raises ProjectExistsError when the id or the name is taken."""
    row = ProjectRow(
        id=project_id,
        name=name,
        envs=list(envs),
        domains=list(domains),
        managed_by=managed_by,
        **asdict(policy),
    )
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise ProjectExistsError from None
    return _project(row)


async def update_project(session: AsyncSession, project_id: UUID, changes: ProjectChanges) -> Project | None:
    """None when there is no such project.

    Raises ProjectExistsError when the name is taken, ProjectInUseError when an env or a domain with users would go.
    """
    # Whoever adds users holds a lock that this one waits for: see `lock_projects`. It lets references to the project
    # pass, because an apply goes on to users, and a change of a user may look at its project.
    row = await session.get(ProjectRow, project_id, with_for_update={"key_share": True})
    if row is None:
        return None
    await _require_unused(session, row, changes)
    for column, value in asdict(changes).items():
        if value is not None:
            setattr(row, column, list(value) if isinstance(value, tuple) else value)
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


async def lock_projects(
    session: AsyncSession, ids: Collection[UUID], scope: Scope, *, to_change: bool = False
) -> dict[UUID, Project]:
    """The projects of the scope by their ids. They keep their envs and domains until the transaction ends.

    With `to_change` nobody else adds users meanwhile.
    """
    any_of_them = ProjectRow.id == func.any(bindparam("ids", list(ids), ARRAY(Uuid())))
    found = select(ProjectRow).where(any_of_them, _within(scope)).order_by(ProjectRow.id)
    rows = await session.scalars(found.with_for_update(read=not to_change, key_share=to_change))
    return {row.id: _project(row) for row in rows}


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


async def _require_unused(session: AsyncSession, row: ProjectRow, changes: ProjectChanges) -> None:
    """Raises ProjectInUseError when users have an env or a domain that the changes take away."""
    given = {
        "project_id": row.id,
        "envs": [] if changes.envs is None else sorted({*row.envs} - {*changes.envs}),
        "domains": [] if changes.domains is None else sorted({*row.domains} - {*changes.domains}),
    }
    if given["envs"] or given["domains"]:
        used = [f"{each.kind} {each.name}" for each in await session.execute(IN_USE, given)]
        if used:
            raise ProjectInUseError(f"There are users in {', '.join(used)}: delete or move them first.")


def _within(scope: Scope) -> ColumnElement[bool]:
    return in_scope(scope, project_id=ProjectRow.id)


def _project(row: ProjectRow) -> Project:
    stored = {field.name: getattr(row, field.name) for field in fields(ProjectPolicy)}
    enums = {"cleaning": Cleaning(row.cleaning), "logins": Logins(row.logins)}
    return Project(
        id=row.id,
        created_at=row.created_at,
        name=row.name,
        policy=ProjectPolicy(**{**stored, **enums}),
        envs=tuple(row.envs),
        domains=tuple(row.domains),
        managed_by=row.managed_by,
    )
