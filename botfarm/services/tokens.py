"""API tokens of machines: made, listed, revoked. How a request's token is checked: authentication.py."""

from collections.abc import Collection
from dataclasses import dataclass, field
from uuid import UUID

from botfarm.access import Principal, Role, Scope, Token
from botfarm.api_tokens import new_token
from botfarm.db import audit_queries, token_queries
from botfarm.db.engine import Database
from botfarm.db.token_queries import NewToken
from botfarm.domain import Env
from botfarm.errors import ForbiddenError, NoSuchProjectError, NoSuchTokenError
from botfarm.services.scopes import find_scope, scope_details


@dataclass(frozen=True, slots=True)
class MadeToken:
    token: Token
    written: str = field(repr=False)
    """The token itself. Nothing can show it again."""


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
        envs: Collection[Env] | None,
        max_leases: int | None,
        expires_in: int | None,
    ) -> MadeToken:
        """Projects by id or name, null for all. Raises NoSuchProjectError, ForbiddenError for more than one has oneself.

        What a token makes ends with it at the latest, whatever `expires_in` says.
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
        """Every replica refuses it within seconds; its leases live on. Twice is as once. Raises NoSuchTokenError."""
        async with self._database.transaction() as session:
            found = await token_queries.revoke_token(session, token_id, principal.scope)
            if found is None:
                raise NoSuchTokenError
            token, was_in_force = found
            if was_in_force:
                await audit_queries.record(
                    session,
                    principal,
                    "delete_token",
                    target="token",
                    target_id=token.id,
                    details={"name": token.name},
                )

    async def _scope(
        self, principal: Principal, projects: Collection[UUID | str] | None, envs: Collection[Env] | None
    ) -> Scope:
        scope, missing = await find_scope(self._database, projects, envs, within=principal.scope)
        if missing:
            raise NoSuchProjectError
        if not principal.scope.contains(scope):
            raise ForbiddenError("A token cannot have a wider scope than who makes it.")
        return scope


def _require_quota_within(own: int | None, wanted: int | None) -> None:
    if own is not None and (wanted is None or wanted > own):
        raise ForbiddenError(f"A token cannot hold more than who makes it: give max_leases, {own} at most.")
