from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import contained, env_list, project_list, scope_of
from botfarm.db.shared.tables import TrustRuleRow
from botfarm.domain.access import Role, Scope
from botfarm.domain.trust import TrustRule
from botfarm.errors import TrustRuleExistsError

_IS_THERE = TrustRuleRow.deleted_at.is_(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTrustRule:
    name: str
    issuer: str
    claims: Mapping[str, str]
    role: Role
    scope: Scope
    max_leases: int | None
    max_leases_of_all: int | None
    token_ttl: int
    once: bool
    created_by: str
    managed_by: str | None = None


async def insert_trust_rule(session: AsyncSession, new: NewTrustRule) -> TrustRule:
    """Raises TrustRuleExistsError."""
    statement = (
        insert(TrustRuleRow)
        .values(
            id=uuid4(),
            name=new.name,
            issuer=new.issuer,
            claims=dict(new.claims),
            role=new.role,
            projects=project_list(new.scope),
            envs=env_list(new.scope),
            max_leases=new.max_leases,
            max_leases_of_all=new.max_leases_of_all,
            token_ttl=new.token_ttl,
            once=new.once,
            created_by=new.created_by,
            managed_by=new.managed_by,
        )
        .returning(TrustRuleRow)
    )
    try:
        return rule_of((await session.scalars(statement)).one())
    except IntegrityError:
        raise TrustRuleExistsError from None


async def list_trust_rules(session: AsyncSession, scope: Scope) -> list[TrustRule]:
    """Rules whose scope is within this one, by their names."""
    statement = select(TrustRuleRow).where(_IS_THERE, _within(scope)).order_by(TrustRuleRow.name)
    return [rule_of(row) for row in await session.scalars(statement)]


async def trust_rules_by_age(session: AsyncSession) -> list[TrustRule]:
    statement = select(TrustRuleRow).where(_IS_THERE).order_by(TrustRuleRow.created_at, TrustRuleRow.id)
    return [rule_of(row) for row in await session.scalars(statement)]


async def delete_trust_rule(session: AsyncSession, rule_id: UUID, scope: Scope) -> TrustRule | None:
    """Returns the rule that was deleted, None when the scope has no such rule."""
    statement = (
        update(TrustRuleRow)
        .where(TrustRuleRow.id == rule_id, _IS_THERE, _within(scope))
        .values(deleted_at=func.clock_timestamp())
        .returning(TrustRuleRow)
    )
    row = (await session.scalars(statement)).one_or_none()
    return rule_of(row) if row else None


async def mark_trust_rule(session: AsyncSession, rule_id: UUID, *, file: str) -> bool:
    """Makes a rule the file's. False when the rule is deleted."""
    statement = (
        update(TrustRuleRow)
        .where(TrustRuleRow.id == rule_id, _IS_THERE)
        .values(managed_by=file)
        .returning(TrustRuleRow.id)
    )
    return await session.scalar(statement) is not None


async def lock_trust_rule(session: AsyncSession, rule_id: UUID) -> bool:
    """False when the rule is deleted.

    Otherwise locks it, so that it is not deleted until the transaction ends.
    """
    statement = select(TrustRuleRow.id).where(TrustRuleRow.id == rule_id, _IS_THERE)
    return await session.scalar(statement.with_for_update(read=True)) is not None


def rule_of(row: TrustRuleRow) -> TrustRule:
    return TrustRule(
        id=row.id,
        name=row.name,
        issuer=row.issuer,
        claims=row.claims,
        role=Role(row.role),
        scope=scope_of(row.projects, row.envs),
        max_leases=row.max_leases,
        max_leases_of_all=row.max_leases_of_all,
        token_ttl=row.token_ttl,
        once=row.once,
        created_at=row.created_at,
        created_by=row.created_by,
        managed_by=row.managed_by,
    )


def _within(scope: Scope) -> ColumnElement[bool]:
    return contained(scope, projects=TrustRuleRow.projects, envs=TrustRuleRow.envs)
