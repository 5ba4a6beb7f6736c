"""Carries out what a plan says of tokens and trust rules, within the transaction of its caller."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.api_tokens import new_token
from botfarm.db.access import token_queries, trust_rule_queries
from botfarm.db.access.token_queries import NewToken
from botfarm.db.access.trust_rule_queries import NewTrustRule
from botfarm.domain.access import Principal, Token
from botfarm.domain.configuration import AppliedToken, Change, Deed, WantedToken, WantedTrustRule
from botfarm.domain.trust import TrustRule
from botfarm.errors import FieldError, InvalidRequestError, TrustRuleExistsError
from botfarm.services.access.scope_lookup import scope_details
from botfarm.services.access.tokens import default_life, require_in_force
from botfarm.services.configuration.access_planning import scope_of
from botfarm.services.configuration.known_farm import KnownFarm
from botfarm.services.configuration.planning import changed_meanwhile


class Say(Protocol):
    def __call__(
        self, action: str, change: Change, target_id: object, details: Mapping[str, object]
    ) -> None: ...


class AccessApplying:
    def __init__(
        self,
        session: AsyncSession,
        principal: Principal,
        known: KnownFarm,
        project_ids: Mapping[str, UUID],
        say: Say,
        *,
        file: str,
    ) -> None:
        self._session = session
        self._principal = principal
        self._known = known
        self._project_ids = project_ids
        self._say = say
        self._file = file

    async def token(self, change: Change, wanted: WantedToken) -> AppliedToken | None:
        """Returns the token if it is a new one."""
        details = {"name": wanted.name, **{each.field: each.after for each in change.differences}}
        if change.deed is Deed.CREATE:
            token, written = await self._new_token(wanted)
            self._say("create_token", change, token.id, {**details, "expires_at": token.expires_at})
            return AppliedToken(wanted.name, token.id, written)
        changed = replace(
            self._known.tokens[wanted.name],
            role=wanted.role,
            scope=scope_of(wanted, self._project_ids),
            max_leases=wanted.max_leases,
            managed_by=self._file,
        )
        if not await token_queries.change_token(self._session, changed):
            raise changed_meanwhile()
        self._say("update_token", change, change.id, details)
        return None

    async def revoke_token(self, change: Change) -> None:
        await token_queries.revoke_token(self._session, str(change.id), self._principal.scope)
        self._say("delete_token", change, change.id, {"name": change.thing.name})

    async def trust_rule(self, change: Change, wanted: WantedTrustRule) -> None:
        """A rule that differs is replaced, because its tokens must end: they were given for other claims."""
        if change.deed is Deed.ADOPT and not change.differences:
            rule_id = self._known.trust_rules[wanted.name].id
            if not await trust_rule_queries.mark_trust_rule(self._session, rule_id, file=self._file):
                raise changed_meanwhile()
            self._say("update_trust_rule", change, rule_id, {"name": wanted.name})
            return
        if change.deed is not Deed.CREATE:
            await self.delete_trust_rule(change)
        rule = await self._new_rule(change, wanted)
        details = {
            "name": rule.name,
            "issuer": rule.issuer,
            "claims": dict(rule.claims),
            "role": rule.role,
            **scope_details(rule.scope),
            "max_leases": rule.max_leases,
            "max_leases_of_all": rule.max_leases_of_all,
            "token_ttl": rule.token_ttl,
            "once": rule.once,
        }
        self._say("create_trust_rule", change, rule.id, details)

    async def delete_trust_rule(self, change: Change) -> None:
        rule_id = self._known.trust_rules[change.thing.name].id
        if await trust_rule_queries.delete_trust_rule(self._session, rule_id, self._principal.scope) is None:
            raise changed_meanwhile()
        self._say("delete_trust_rule", change, rule_id, {"name": change.thing.name})

    async def _new_token(self, wanted: WantedToken) -> tuple[Token, str]:
        await require_in_force(self._session, self._principal)
        made = new_token()
        new = NewToken(
            id=made.id,
            secret_hash=made.secret_hash,
            name=wanted.name,
            role=wanted.role,
            scope=scope_of(wanted, self._project_ids),
            max_leases=wanted.max_leases,
            expires_in=wanted.expires_in or default_life(self._principal),
            expires_at_most=self._principal.expires_at,
            created_by=self._principal.name,
            managed_by=self._file,
        )
        return await token_queries.insert_token(self._session, new), made.write()

    async def _new_rule(self, change: Change, wanted: WantedTrustRule) -> TrustRule:
        await require_in_force(self._session, self._principal)
        new = NewTrustRule(
            name=wanted.name,
            issuer=wanted.issuer,
            claims=wanted.claims,
            role=wanted.role,
            scope=scope_of(wanted, self._project_ids),
            max_leases=wanted.max_leases,
            max_leases_of_all=wanted.max_leases_of_all,
            token_ttl=wanted.token_ttl,
            once=wanted.once,
            created_by=self._principal.name,
            managed_by=self._file,
        )
        try:
            return await trust_rule_queries.insert_trust_rule(self._session, new)
        except TrustRuleExistsError:
            message = "there is another trust rule of this name, made meanwhile or outside of your scope"
            raise InvalidRequestError(
                FieldError(f"{change.where}.name", "trust-rule-exists", message)
            ) from None
