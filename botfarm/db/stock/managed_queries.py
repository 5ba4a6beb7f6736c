"""Users as a configuration compares and changes them: their place, labels, status and file. Never a credential."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.tables import ProjectRow
from botfarm.domain.access import Scope
from botfarm.domain.pools import Pool

_COLUMNS = """
    u.id, u.login, u.login_key, u.project_id, p.name AS project_name, u.env, u.domain, u.labels, u.managed_by,
    u.status = 'retired' AS is_retired, u.expires_at > clock_timestamp() AS is_leased"""

NAMED = text(f"""
    SELECT {_COLUMNS}
    FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:login_keys AS text[]))
         AS wanted (project_id, env, login_key)
    JOIN users AS u USING (project_id, env, login_key) JOIN projects AS p ON p.id = u.project_id
    WHERE {within("u")}""")

MANAGED_BY = text(f"""
    SELECT {_COLUMNS}
    FROM users AS u JOIN projects AS p ON p.id = u.project_id
    WHERE u.managed_by = :file AND {within("u")}
    ORDER BY p.name, u.env, u.login""")

LOCK = text(f"""
    SELECT {_COLUMNS}
    FROM users AS u JOIN projects AS p ON p.id = u.project_id
    WHERE u.id = ANY (CAST(:ids AS uuid[]))
    ORDER BY u.id FOR UPDATE OF u""")

# Names the columns that a file says, because a test may write a credential back at the same time.
CHANGE = text("""
    UPDATE users AS u SET domain = changed.domain, labels = CAST(changed.labels AS jsonb), managed_by = :file
    FROM unnest(CAST(:ids AS uuid[]), CAST(:domains AS text[]), CAST(:labels AS text[]))
         AS changed (id, domain, labels)
    WHERE u.id = changed.id""")


@dataclass(frozen=True, slots=True)
class KnownUser:
    id: UUID
    login: str
    login_key: str
    pool: Pool
    project_name: str
    labels: Mapping[str, str]
    managed_by: str | None
    is_retired: bool
    is_leased: bool

    def is_as(self, other: "KnownUser") -> bool:
        """Whether both are the same but for the lease."""
        ours, theirs = (
            (each.id, each.login_key, each.pool, each.labels, each.managed_by, each.is_retired)
            for each in (self, other)
        )
        return ours == theirs


@dataclass(frozen=True, slots=True)
class UserChange:
    """What a user has from now on."""

    id: UUID
    domain: str
    labels: str
    """JSON text."""


async def users_named(
    session: AsyncSession, wanted: Collection[tuple[UUID, str, str]], scope: Scope
) -> list[KnownUser]:
    """The users of these projects, envs and normal forms of logins."""
    columns = {
        "project_ids": [project_id for project_id, _, _ in wanted],
        "envs": [env for _, env, _ in wanted],
        "login_keys": [key for _, _, key in wanted],
    }
    return [_known(row) for row in await session.execute(NAMED, {**columns, **scope_parameters(scope)})]


async def users_managed_by(session: AsyncSession, file: str, scope: Scope) -> list[KnownUser]:
    rows = await session.execute(MANAGED_BY, {"file": file, **scope_parameters(scope)})
    return [_known(row) for row in rows]


async def lock_users(session: AsyncSession, ids: Collection[UUID]) -> list[KnownUser]:
    """Locks the users until the transaction ends, and reads them as they are then."""
    return [_known(row) for row in await session.execute(LOCK, {"ids": list(ids)})]


async def change_users(session: AsyncSession, changes: Sequence[UserChange], *, file: str) -> None:
    """Changes users that are locked, and marks them as the file's."""
    columns = {
        "ids": [change.id for change in changes],
        "domains": [change.domain for change in changes],
        "labels": [change.labels for change in changes],
    }
    await session.execute(CHANGE, {**columns, "file": file})


async def mark_project(session: AsyncSession, project_id: UUID, *, file: str) -> None:
    await session.execute(update(ProjectRow).where(ProjectRow.id == project_id).values(managed_by=file))


def _known(row: Row[Any]) -> KnownUser:
    return KnownUser(
        id=row.id,
        login=row.login,
        login_key=row.login_key,
        pool=Pool(row.project_id, row.env, row.domain),
        project_name=row.project_name,
        labels=row.labels,
        managed_by=row.managed_by,
        is_retired=row.is_retired,
        is_leased=bool(row.is_leased),
    )
