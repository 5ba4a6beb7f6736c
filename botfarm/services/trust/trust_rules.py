"""Creates, lists and deletes trust rules. A deleted rule's tokens end at once, and no others are given."""

from collections.abc import Collection, Mapping
from uuid import UUID

from botfarm.db.access import audit_queries, trust_rule_queries
from botfarm.db.access.trust_rule_queries import NewTrustRule
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Principal, Role, Scope
from botfarm.domain.trust import TrustRule
from botfarm.errors import NoSuchTrustRuleError
from botfarm.services.access.scope_lookup import grantable_scope, require_quota_within, scope_details
from botfarm.services.access.tokens import require_in_force
from botfarm.services.shared.ttl_cache import TtlCache

_ALL = "all"
"""The one key of the cache."""


class TrustRules:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept = TtlCache[str, list[TrustRule]](self._load)

    async def of_issuer(self, issuer: str) -> list[TrustRule]:
        """The rules of this issuer, the oldest first, as they were seconds ago: a flood costs no query each."""
        return [rule for rule in await self._kept.get(_ALL) or [] if rule.issuer == issuer]

    def forget(self) -> None:
        """Rules have changed."""
        self._kept.forget(_ALL)

    async def _load(self, _: Collection[str]) -> Mapping[str, list[TrustRule]]:
        async with self._database.autocommit() as session:
            return {_ALL: await trust_rule_queries.trust_rules_by_age(session)}

    async def create(
        self,
        principal: Principal,
        *,
        name: str,
        issuer: str,
        claims: Mapping[str, str],
        role: Role,
        projects: Collection[UUID | str] | None,
        envs: Collection[str] | None,
        max_leases: int | None,
        max_leases_of_all: int | None,
        token_ttl: int,
        once: bool,
    ) -> TrustRule:
        """Creates a rule, for projects by id or name, None for all.

        Raises NoSuchProjectError; TrustRuleExistsError; ForbiddenError if the rule would exceed the caller's own scope
        or quota; UnauthenticatedError if the caller has just been revoked or disabled.
        """
        require_quota_within(principal, max_leases)
        scope = await grantable_scope(self._database, principal, projects, envs)
        new = NewTrustRule(
            name=name,
            issuer=issuer,
            claims=claims,
            role=role,
            scope=scope,
            max_leases=max_leases,
            max_leases_of_all=max_leases_of_all,
            token_ttl=token_ttl,
            once=once,
            created_by=principal.name,
        )
        async with self._database.transaction() as session:
            await require_in_force(session, principal)
            rule = await trust_rule_queries.insert_trust_rule(session, new)
            details = {
                "name": name,
                "issuer": issuer,
                "claims": dict(claims),
                "role": role,
                **scope_details(scope),
                "max_leases": max_leases,
                "max_leases_of_all": max_leases_of_all,
                "token_ttl": token_ttl,
                "once": once,
            }
            await audit_queries.record(
                session,
                principal,
                "create_trust_rule",
                target="trust_rule",
                target_id=rule.id,
                details=details,
            )
        self.forget()
        return rule

    async def list(self, scope: Scope) -> list[TrustRule]:
        async with self._database.autocommit() as session:
            return await trust_rule_queries.list_trust_rules(session, scope)

    async def delete(self, principal: Principal, rule_id: UUID) -> None:
        """Deletes a rule. Every replica refuses its tokens within seconds; the leases of its runs live on.

        Raises NoSuchTrustRuleError.
        """
        async with self._database.transaction() as session:
            rule = await trust_rule_queries.delete_trust_rule(session, rule_id, principal.scope)
            if rule is None:
                raise NoSuchTrustRuleError
            details = {"name": rule.name}
            await audit_queries.record(
                session,
                principal,
                "delete_trust_rule",
                target="trust_rule",
                target_id=rule.id,
                details=details,
            )
        self.forget()
