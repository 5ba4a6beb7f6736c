"""People sign in at their company's provider.

A person is an operator by issuer and subject, never by name or e-mail. Role and scope follow the groups at each
sign-in; without a role nobody is let in. Local operators stay, for the day when the provider is away.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access import audit_queries, operator_queries, session_queries
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import EVERYTHING, Operator, Principal, Role, Scope, Session
from botfarm.errors import SlowDownError, UnauthenticatedError
from botfarm.group_roles import GroupRole, role_of
from botfarm.logs import get_logger
from botfarm.services.access.passwords import NOBODYS
from botfarm.services.access.scope_lookup import find_scope
from botfarm.services.access.sessions import Badge, Sessions
from botfarm.services.trust.failure_limit import FailureLimit
from botfarm.services.trust.provider_endpoints import SignOnRefusedError
from botfarm.services.trust.provider_flow import Attempt, Provider, ProviderFlow

logger = get_logger(__name__)

_REFUSED = "You could not be signed in; the farm's audit has the reason. Ask whoever runs the farm."
_AWAY = "The provider does not answer: try again, or sign in with a local account."
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


class SingleSignOn:
    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        flow: ProviderFlow,
        provider: Provider,
        *,
        claim: str,
        roles: Sequence[GroupRole],
    ) -> None:
        """`claim` has a person's groups, for which `roles` are given."""
        self._database = database
        self._sessions = sessions
        self._flow = flow
        self._provider = provider
        self._claim = claim
        self._roles = roles
        self._failures = FailureLimit()

    @property
    def name(self) -> str:
        return self._provider.name

    async def begin(self, next_page: str) -> Attempt:
        """Raises UnauthenticatedError while the provider does not answer."""
        try:
            return await self._flow.begin(next_page)
        except SignOnRefusedError as refused:
            logger.warning("single sign-on", reason=str(refused))
            raise UnauthenticatedError(_AWAY) from None

    async def finish(
        self,
        *,
        code: str,
        state: str,
        cookie: str | None,
        former: str | None,
        address: str | None,
        request_id: str | None,
    ) -> tuple[Session, Badge, str]:
        """The session, its badge and the page that the person wanted.

        Raises UnauthenticatedError, and SlowDownError for an address that has failed often, because each return makes
        the farm ask the provider.
        """
        if (pause := self._failures.pause(address)) is not None:
            raise SlowDownError(retry_after=math.ceil(pause))
        try:
            claims, next_page = await self._flow.claims(code=code, state=state, cookie=cookie)
            session, badge = await self._admit(claims, former, address, request_id)
        except SignOnRefusedError as refused:
            self._failures.count(address)
            await self._record_refusal(refused, address, request_id)
            raise UnauthenticatedError(_REFUSED) from None
        return session, badge, next_page

    async def _admit(
        self, claims: Mapping[str, Any], former: str | None, address: str | None, request_id: str | None
    ) -> tuple[Session, Badge]:
        """Creates the operator at the first sign-in. Ends the person's sessions when there is no role any more."""
        issuer, subject = self._provider.issuer, str(claims["sub"])
        if self._claim == "email" and claims.get("email_verified") is not True:
            raise SignOnRefusedError("the e-mail address is not verified")
        granted = role_of(_groups(claims.get(self._claim)), self._roles)
        scope = await self._scope(granted) if granted else None
        async with self._database.transaction() as transaction:
            known = await operator_queries.find_person(transaction, issuer, subject)
            if granted and scope and (known is None or known.disabled_at is None):
                operator = await self._operator(transaction, known, claims, Role(granted.role), scope)
                return await self._sessions.open_for(
                    transaction, operator, former=former, address=address, request_id=request_id, by=issuer
                )
            if known is not None:
                await session_queries.end_sessions_of(transaction, known.id)
        raise SignOnRefusedError(_why_not(granted, scope), operator=known.name if known else None)

    async def _operator(
        self,
        transaction: AsyncSession,
        known: Operator | None,
        claims: Mapping[str, Any],
        role: Role,
        scope: Scope,
    ) -> Operator:
        if known is not None:
            return await operator_queries.set_role(transaction, known.id, role=role, scope=scope)
        person = self._provider.issuer, str(claims["sub"])
        for name in _names(claims, *person):
            made = await operator_queries.insert_operator(
                transaction, name=name, password_hash=NOBODYS, role=role, scope=scope, person=person
            )
            if made is not None:
                return made
        raise AssertionError("the second name is this person's alone")

    async def _scope(self, granted: GroupRole) -> Scope | None:
        scope, missing = await find_scope(self._database, granted.projects, granted.envs, within=EVERYTHING)
        return None if missing else scope

    async def _record_refusal(
        self, refused: SignOnRefusedError, address: str | None, request_id: str | None
    ) -> None:
        logger.warning("single sign-on refused", reason=str(refused), operator=refused.operator)
        stranger = Principal("anonymous", Role.VIEWER, EVERYTHING, address=address, request_id=request_id)
        async with self._database.transaction() as transaction:
            await audit_queries.record(
                transaction,
                stranger,
                "login_failed",
                target="operator",
                target_id=refused.operator or "?",
                details={"reason": str(refused), "by": self._provider.issuer},
            )


def _why_not(granted: GroupRole | None, scope: Scope | None) -> str:
    if granted is None:
        return "no role for these groups"
    return "disabled" if scope else "the role is for a project that is not there"


def _groups(claim: object) -> set[str]:
    """A claim is a list of texts, or one text; providers write it either way."""
    listed = claim if isinstance(claim, list) else [claim]
    return {each for each in listed if isinstance(each, str)}


def _names(claims: Mapping[str, Any], issuer: str, subject: str) -> tuple[str, str]:
    """What the person is called in the farm, and a name that nobody else has, if that is taken."""
    given = next((claims[name] for name in ("preferred_username", "email", "name") if claims.get(name)), "")
    name = _NOT_IN_A_NAME.sub("-", str(given).partition("@")[0]).strip("-.")[:50] or "person"
    digest = hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()
    return name, f"{name}-{digest[:12]}"
