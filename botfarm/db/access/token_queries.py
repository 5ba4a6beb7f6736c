from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Text,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import env_list, project_list, scope_of
from botfarm.db.shared.tables import TokenRow
from botfarm.domain.access import Principal, Role, Scope, Token

# Only for tokens in use, and for each at most once a minute, because otherwise every request would be an
# UPDATE. Skips locked rows, because a revocation of several tokens locks them in another order.
TOUCH = text("""
    WITH used AS MATERIALIZED (
        SELECT id FROM tokens WHERE id = ANY (CAST(:ids AS text[]))
          AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - interval '1 minute')
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE tokens SET last_used_at = clock_timestamp() FROM used WHERE tokens.id = used.id""")

# Follows tokens that have ended, too, because the tokens that they made are still in force.
LIVE_MADE_BY = text("""
    WITH RECURSIVE made AS (
        SELECT id, name FROM tokens WHERE created_by = :maker
        UNION
        SELECT t.id, t.name
        FROM tokens AS t JOIN made AS m ON t.created_by = 'token:' || m.name || ':' || m.id
    )
    SELECT tokens.* FROM tokens JOIN made USING (id)
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())
    ORDER BY tokens.id""")


@dataclass(frozen=True, slots=True)
class LiveToken:
    """The value that the token of a request is compared with."""

    principal: Principal
    secret_hash: bytes = field(repr=False)
    expires_in: float | None
    """Seconds; null means that it does not expire."""


@dataclass(frozen=True, slots=True)
class NewToken:
    id: str
    secret_hash: bytes = field(repr=False)
    name: str
    role: Role
    scope: Scope
    max_leases: int | None
    expires_in: int | None
    expires_at_most: datetime | None
    created_by: str
    managed_by: str | None = None


async def insert_token(session: AsyncSession, new: NewToken) -> Token:
    expires_at: ColumnElement[Any] = literal(new.expires_at_most, DateTime(timezone=True))
    if new.expires_in is not None:
        wanted = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, new.expires_in)
        expires_at = func.least(wanted, expires_at)  # which passes over null
    statement = (
        insert(TokenRow)
        .values(
            id=new.id,
            name=new.name,
            secret_hash=new.secret_hash,
            role=new.role,
            projects=project_list(new.scope),
            envs=env_list(new.scope),
            max_leases=new.max_leases,
            created_by=new.created_by,
            managed_by=new.managed_by,
            expires_at=expires_at,
        )
        .returning(TokenRow)
    )
    return _token((await session.scalars(statement)).one())


async def list_tokens(session: AsyncSession, scope: Scope, *, created_by: str | None) -> list[Token]:
    """Tokens whose scope is within this one, revoked tokens too, the newest first."""
    statement = select(TokenRow).where(_contained(scope)).order_by(TokenRow.created_at.desc(), TokenRow.id)
    if created_by is not None:
        statement = statement.where(TokenRow.created_by == created_by)
    return [_token(row) for row in await session.scalars(statement)]


async def live_tokens_made_by(session: AsyncSession, maker: str) -> list[Token]:
    """Tokens in force that this principal made, that those tokens made, and so on, ordered by id."""
    statement = select(TokenRow).from_statement(LIVE_MADE_BY)
    return [_token(row) for row in await session.scalars(statement, {"maker": maker})]


async def lock_in_force(session: AsyncSession, token_id: str) -> bool:
    """False when the token is revoked.

    Otherwise locks it, so that it is not revoked until the transaction ends.
    """
    statement = select(TokenRow.id).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None))
    return await session.scalar(statement.with_for_update(read=True)) is not None


async def revoke_token(session: AsyncSession, token_id: str, scope: Scope) -> tuple[Token, bool] | None:
    """Revokes the token; returns it, and whether it was in force until now.

    None when the scope has no such token.
    """
    statement = select(TokenRow).where(TokenRow.id == token_id, _contained(scope)).with_for_update()
    row = await session.scalar(statement)
    if row is None:
        return None
    token = _token(row)
    if token.revoked_at is None:
        revoke = update(TokenRow).where(TokenRow.id == token_id).values(revoked_at=func.clock_timestamp())
        await session.execute(revoke)
    return token, token.revoked_at is None


async def change_token(session: AsyncSession, token: Token) -> bool:
    """Gives a token in force the role, scope, quota and file of `token`. False when it is not in force."""
    statement = (
        update(TokenRow)
        .where(TokenRow.id == token.id, TokenRow.revoked_at.is_(None))
        .values(
            role=token.role,
            projects=project_list(token.scope),
            envs=env_list(token.scope),
            max_leases=token.max_leases,
            managed_by=token.managed_by,
        )
        .returning(TokenRow.id)
    )
    return await session.scalar(statement) is not None


async def tokens_in_force(session: AsyncSession, scope: Scope) -> list[Token]:
    """Tokens in force whose scope is within this one, the newest first."""
    statement = (
        select(TokenRow)
        .where(
            _contained(scope),
            TokenRow.revoked_at.is_(None),
            or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > func.clock_timestamp()),
        )
        .order_by(TokenRow.created_at.desc(), TokenRow.id)
    )
    return [_token(row) for row in await session.scalars(statement)]


async def live_tokens(session: AsyncSession, ids: Collection[str]) -> dict[str, LiveToken]:
    """Returns the tokens in force by their ids."""
    left = func.extract("epoch", TokenRow.expires_at - func.clock_timestamp())
    statement = select(TokenRow, left.label("expires_in")).where(
        TokenRow.id == func.any(bindparam("ids", list(ids), ARRAY(Text()))),
        TokenRow.revoked_at.is_(None),
        or_(TokenRow.expires_at.is_(None), TokenRow.expires_at > func.clock_timestamp()),
    )
    found = {}
    for row, expires_in in await session.execute(statement):
        token = _token(row)
        principal = Principal(
            token.principal_name, token.role, token.scope, token.max_leases, token.expires_at
        )
        found[token.id] = LiveToken(principal, row.secret_hash, float(expires_in) if row.expires_at else None)
    return found


async def touch_tokens(session: AsyncSession, ids: Collection[str]) -> None:
    """Records that these tokens were used now."""
    await session.execute(TOUCH, {"ids": list(ids)})


def _contained(scope: Scope) -> ColumnElement[bool]:
    """The token's scope is within `scope`. Null columns mean all, which only a whole scope contains."""
    conditions: list[ColumnElement[bool]] = [literal(value=True)]
    if scope.projects is not None:
        conditions.append(TokenRow.projects.contained_by(project_list(scope)))
    if scope.envs is not None:
        conditions.append(TokenRow.envs.contained_by(env_list(scope)))
    return and_(*conditions)


def _token(row: TokenRow) -> Token:
    return Token(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        scope=scope_of(row.projects, row.envs),
        max_leases=row.max_leases,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        managed_by=row.managed_by,
    )
