"""Operators, the people who run the farm. Managed on the command line, with the database's own password."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access import audit_queries, operator_queries, session_queries, token_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, THIS_MACHINE, Operator, Role, Scope, Token
from botfarm.domain.pools import SHORT_NAME
from botfarm.domain.projects import id_or_name
from botfarm.errors import OperatorError
from botfarm.services.access.passwords import Passwords
from botfarm.services.access.scope_lookup import ALL, find_scope, scope_details
from botfarm.services.access.tokens import revoke_made_by

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MIN_PASSWORD, MAX_PASSWORD = 12, 1_024


@dataclass(frozen=True, slots=True)
class SignedOut:
    """The result of ending an operator's sessions."""

    was_disabled: bool
    tokens: list[Token]
    """Tokens that the operator made in sessions, that those tokens made, and so on.

    Revoked if that was asked for, else still in force.
    """


class Operators:
    """Raises OperatorError for what the person at the terminal can mend.

    Names are given in upper or lower case.
    """

    def __init__(self, database: Database, passwords: Passwords) -> None:
        self._database = database
        self._passwords = passwords

    async def scope_of(self, projects: Collection[str], envs: Collection[str]) -> Scope:
        """A scope of projects (by name or id) and envs; `*` means all.

        Raises OperatorError for an unknown project or env.
        """
        scope, missing = await find_scope(
            self._database,
            None if ALL in projects else list(map(id_or_name, projects)),
            None if ALL in envs else list(map(_env, envs)),
            within=EVERYTHING,
        )
        if missing:
            raise OperatorError(f"there is no project {str(missing[0])[:64]!r}: see `botfarm projects list`")
        return scope

    async def add(self, name: str, password: str, role: Role, scope: Scope) -> Operator:
        if not NAME.fullmatch(name):
            raise OperatorError("a name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore")
        password_hash = await self._hash(password)
        async with self._database.transaction() as session:
            operator = await operator_queries.insert_operator(
                session, name=name, password_hash=password_hash, role=role, scope=scope
            )
            if operator is None:
                raise OperatorError(
                    f"there is an operator {name} already: "
                    f"`botfarm operators set-password {name}` gives a new password"
                )
            await _record(session, "add_operator", operator, role=role.value, **scope_details(scope))
        return operator

    async def list(self, scope: Scope = EVERYTHING) -> list[Operator]:
        """Those whose own scope is within this one."""
        async with self._database.autocommit() as session:
            operators = await operator_queries.list_operators(session)
        return [operator for operator in operators if scope.contains(operator.scope)]

    async def disable(self, name: str, *, revoke_tokens: bool = False) -> SignedOut:
        """Disables the operator and ends all sessions.

        Does nothing more when the operator is disabled already.
        """
        async with self._database.transaction() as session:
            operator = await _locked(session, name)
            was_disabled = operator.disabled_at is not None
            if not was_disabled:
                await operator_queries.set_disabled(session, operator.id, disabled=True)
                ended = await session_queries.end_sessions_of(session, operator.id)
                await _record(session, "disable_operator", operator, ended_sessions=ended)
            tokens = await _tokens_of(session, operator, revoke=revoke_tokens)
        return SignedOut(was_disabled, tokens)

    async def enable(self, name: str) -> bool:
        """Enables the operator. False when the operator was not disabled."""
        async with self._database.transaction() as session:
            operator = await _locked(session, name)
            if operator.disabled_at is None:
                return False
            await operator_queries.set_disabled(session, operator.id, disabled=False)
            await _record(session, "enable_operator", operator)
        return True

    async def set_password(self, name: str, password: str, *, revoke_tokens: bool = False) -> SignedOut:
        """Sets the password and ends all sessions of the operator."""
        password_hash = await self._hash(password)
        async with self._database.transaction() as session:
            operator = await _locked(session, name)
            await operator_queries.set_password_hash(session, operator.id, password_hash)
            ended = await session_queries.end_sessions_of(session, operator.id)
            await _record(session, "set_operator_password", operator, ended_sessions=ended)
            tokens = await _tokens_of(session, operator, revoke=revoke_tokens)
        return SignedOut(operator.disabled_at is not None, tokens)

    async def _hash(self, password: str) -> str:
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise OperatorError(f"a password has {MIN_PASSWORD} to {MAX_PASSWORD} characters")
        if any(unicodedata.category(each) in {"Cc", "Cs"} for each in password):
            raise OperatorError(
                "a password is Unicode without control characters: they cannot be typed again"
            )
        return await self._passwords.hash(password)


async def _locked(session: AsyncSession, name: str) -> Operator:
    operator = await operator_queries.find_operator(session, name, for_update=True)
    if operator is None:
        raise OperatorError("there is no such operator: see `botfarm operators list`")
    return operator


async def _tokens_of(session: AsyncSession, operator: Operator, *, revoke: bool) -> list[Token]:
    if revoke:
        return await revoke_made_by(session, THIS_MACHINE, operator.principal_name)
    return await token_queries.live_tokens_made_by(session, operator.principal_name)


async def _record(session: AsyncSession, action: str, operator: Operator, **details: object) -> None:
    await audit_queries.record(
        session, THIS_MACHINE, action, target="operator", target_id=operator.name, details=details
    )


def _env(name: str) -> str:
    if not re.fullmatch(SHORT_NAME, name):
        raise OperatorError(
            "the name of an env is 1 to 32 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit; "
            f"{ALL} means all"
        )
    return name
