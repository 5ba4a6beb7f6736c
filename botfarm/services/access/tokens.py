"""Creates, lists and revokes API tokens. How a request's token is checked: token_authentication.py."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.api_tokens import new_token
from botfarm.db.access import audit_queries, operator_queries, session_queries, token_queries
from botfarm.db.access.token_queries import NewToken
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, Principal, Role, Scope, Token
from botfarm.errors import ForbiddenError, NoSuchProjectError, NoSuchTokenError, UnauthenticatedError
from botfarm.services.access.scope_lookup import find_scope, scope_details

LIFE_OF_A_PERSONS = timedelta(days=90)
"""Of a token that an operator makes in a session and gives no other end: about as long as a quarter."""


@dataclass(frozen=True, slots=True)
class MadeToken:
    token: Token
    written: str = field(repr=False)
    """The token itself, which cannot be shown again."""


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        role: Role,
        projects: Collection[UUID | str] | None,
        envs: Collection[str] | None,
        max_leases: int | None,
        expires_in: int | None,
    ) -> MadeToken:
        """Creates a token.

        Projects by id or name, None for all; `expires_in` in seconds, None for no end of its own.

        A token that a token makes ends with its maker at the latest. Raises NoSuchProjectError;
        ForbiddenError if the new token would exceed the caller's own role, scope or quota;
        UnauthenticatedError if the caller has just been revoked or disabled.
        """
        _require_quota_within(principal.max_leases, max_leases)
        scope = await self._scope(principal, projects, envs)
        made = new_token()
        new = NewToken(
            id=made.id,
            secret_hash=made.secret_hash,
            name=name,
            role=role,
            scope=scope,
            max_leases=max_leases,
            expires_in=expires_in,
            expires_at_most=principal.expires_at,
            created_by=principal.name,
        )
        async with self._database.transaction() as session:
            await require_in_force(session, principal)
            token = await token_queries.insert_token(session, new)
            details = {
                "name": name,
                "role": role,
                **scope_details(scope),
                "max_leases": max_leases,
                "expires_at": token.expires_at,
            }
            await audit_queries.record(
                session, principal, "create_token", target="token", target_id=token.id, details=details
            )
        return MadeToken(token, made.write())

    async def list(self, scope: Scope, *, created_by: str | None = None) -> list[Token]:
        async with self._database.autocommit() as session:
            return await token_queries.list_tokens(session, scope, created_by=created_by)

    async def revoke(self, principal: Principal, token_id: str) -> None:
        """Revokes a token, which every replica refuses within seconds. Its leases live on. Idempotent.

        Raises NoSuchTokenError.
        """
        async with self._database.transaction() as session:
            found = await token_queries.revoke_token(session, token_id, principal.scope)
            if found is None:
                raise NoSuchTokenError
            token, was_in_force = found
            if was_in_force:
                await _record_revoked(session, principal, token)

    async def _scope(
        self, principal: Principal, projects: Collection[UUID | str] | None, envs: Collection[str] | None
    ) -> Scope:
        scope, missing = await find_scope(self._database, projects, envs, within=principal.scope)
        if missing:
            raise NoSuchProjectError
        if not principal.scope.contains(scope):
            raise ForbiddenError("A token cannot have a wider scope than who makes it.")
        return scope


def default_life(principal: Principal) -> int | None:
    """Seconds until the token expires, None for no end of its own."""
    return int(LIFE_OF_A_PERSONS.total_seconds()) if principal.operator_name else None


async def revoke_made_by(session: AsyncSession, principal: Principal, maker: str) -> list[Token]:
    """Revokes the tokens that `maker` made, that those made, and so on. Returns those that were in force.

    Repeats until none is found, because a token that is being made is visible only after its maker's row was
    locked.
    """
    revoked: list[Token] = []
    while found := await token_queries.live_tokens_made_by(session, maker):
        for token in found:
            _, was_in_force = await token_queries.revoke_token(session, token.id, EVERYTHING) or (
                token,
                False,
            )
            if was_in_force:
                await _record_revoked(session, principal, token)
                revoked.append(token)
    return revoked


async def _record_revoked(session: AsyncSession, principal: Principal, token: Token) -> None:
    details = {"name": token.name}
    await audit_queries.record(
        session, principal, "delete_token", target="token", target_id=token.id, details=details
    )


async def require_in_force(session: AsyncSession, maker: Principal) -> None:
    """Checks that the maker is still in force, because this replica's cache may be seconds old.

    Locks it, so that a revocation waits for this transaction and finds the new token.
    """
    if maker.token_id:
        in_force = await token_queries.lock_in_force(session, maker.token_id)
    elif maker.operator_name:
        operator_id = await operator_queries.lock_enabled(session, maker.operator_name)
        in_force = operator_id is not None and await session_queries.is_signed_in(session, operator_id)
    else:  # the bootstrap token and the command line have no row
        return
    if not in_force:
        raise UnauthenticatedError


def _require_quota_within(own: int | None, wanted: int | None) -> None:
    if own is not None and (wanted is None or wanted > own):
        raise ForbiddenError(f"A token cannot hold more than who makes it: give max_leases, {own} at most.")
