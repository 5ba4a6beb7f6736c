"""Operators. Their names are compared without regard to upper and lower case."""

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import env_list, project_list, scope_of
from botfarm.db.shared.tables import OperatorRow
from botfarm.domain.access import Operator, Role, Scope

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


@dataclass(frozen=True, slots=True)
class Credentials:
    operator: Operator
    password_hash: str = field(repr=False)


async def insert_operator(
    session: AsyncSession,
    *,
    name: str,
    password_hash: str,
    role: Role,
    scope: Scope,
    person: tuple[str, str] | None = None,
) -> Operator | None:
    """None when the name is taken. `person` is the issuer and subject of one who signs in at a provider."""
    issuer, subject = person or (None, None)
    statement = (
        insert(OperatorRow)
        .values(
            id=uuid4(),
            name=name,
            password_hash=password_hash,
            issuer=issuer,
            subject=subject,
            role=role.value,
            projects=project_list(scope),
            envs=env_list(scope),
        )
        .on_conflict_do_nothing()
        .returning(OperatorRow)
    )
    row = await session.scalar(statement)
    return operator_of(row) if row else None


async def find_person(session: AsyncSession, issuer: str, subject: str) -> Operator | None:
    """The operator that this person of a provider is. Waits for another sign-in of the same person."""
    await session.execute(_LOCK, {"name": f"person/{issuer}/{subject}"})
    found = select(OperatorRow).where(OperatorRow.issuer == issuer, OperatorRow.subject == subject)
    row = await session.scalar(found.with_for_update())
    return operator_of(row) if row else None


async def set_role(session: AsyncSession, operator_id: UUID, *, role: Role, scope: Scope) -> Operator:
    statement = (
        update(OperatorRow)
        .where(OperatorRow.id == operator_id)
        .values(role=role.value, projects=project_list(scope), envs=env_list(scope))
        .returning(OperatorRow)
    )
    return operator_of((await session.scalars(statement)).one())


async def list_operators(session: AsyncSession) -> list[Operator]:
    rows = await session.scalars(select(OperatorRow).order_by(func.lower(OperatorRow.name)))
    return [operator_of(row) for row in rows]


async def find_operator(session: AsyncSession, name: str, *, for_update: bool = False) -> Operator | None:
    found = select(OperatorRow).where(func.lower(OperatorRow.name) == func.lower(name))
    row = await session.scalar(found.with_for_update() if for_update else found)
    return operator_of(row) if row else None


async def find_credentials(session: AsyncSession, name: str) -> Credentials | None:
    row = await session.scalar(select(OperatorRow).where(func.lower(OperatorRow.name) == func.lower(name)))
    return Credentials(operator_of(row), row.password_hash) if row else None


async def lock_unchanged(session: AsyncSession, credentials: Credentials) -> bool:
    """False when the operator is disabled or has another password by now.

    Else neither changes until the transaction ends.
    """
    statement = (
        select(OperatorRow.id)
        .where(
            OperatorRow.id == credentials.operator.id,
            OperatorRow.password_hash == credentials.password_hash,
            OperatorRow.disabled_at.is_(None),
        )
        .with_for_update(key_share=True)
    )
    return await session.scalar(statement) is not None


async def lock_enabled(session: AsyncSession, name: str) -> UUID | None:
    """Returns the operator's id and locks the row until the transaction ends.

    None when the operator is disabled.
    """
    statement = select(OperatorRow.id).where(
        func.lower(OperatorRow.name) == func.lower(name), OperatorRow.disabled_at.is_(None)
    )
    operator_id: UUID | None = await session.scalar(statement.with_for_update(read=True))
    return operator_id


async def set_disabled(session: AsyncSession, operator_id: UUID, *, disabled: bool) -> None:
    disabled_at = func.clock_timestamp() if disabled else None
    await session.execute(
        update(OperatorRow).where(OperatorRow.id == operator_id).values(disabled_at=disabled_at)
    )


async def set_password_hash(session: AsyncSession, operator_id: UUID, password_hash: str) -> None:
    await session.execute(
        update(OperatorRow).where(OperatorRow.id == operator_id).values(password_hash=password_hash)
    )


def operator_of(row: OperatorRow) -> Operator:
    return Operator(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        scope=scope_of(row.projects, row.envs),
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        issuer=row.issuer,
    )
