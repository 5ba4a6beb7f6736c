"""Tokens and trust rules of a file: what would change. They need the role admin."""

from collections.abc import Mapping
from uuid import UUID

from botfarm.domain.access import Principal, Role, Scope, Token
from botfarm.domain.configuration import (
    Change,
    Deed,
    Difference,
    Kind,
    Thing,
    WantedFarm,
    WantedToken,
    WantedTrustRule,
)
from botfarm.domain.trust import TrustRule
from botfarm.services.configuration.known_farm import KnownFarm
from botfarm.services.configuration.plan_draft import PlanDraft, differences_of_map


class AccessPlanning:
    def __init__(self, principal: Principal, wanted: WantedFarm, known: KnownFarm, draft: PlanDraft) -> None:
        self._principal = principal
        self._wanted = wanted
        self._known = known
        self._draft = draft

    def token(self, where: str, wanted: WantedToken) -> None:
        thing = Thing(Kind.TOKEN, wanted.name)
        if not self._may_be_planned(where, thing, wanted):
            return
        token, after = self._known.tokens.get(wanted.name), _terms(wanted)
        if token is None:
            self._draft.changes.append(Change(thing, Deed.CREATE, _differences({}, after), where))
            return
        differences = _differences(self._terms_of(token), after)
        self._draft.settle(where, thing, token.id, token.managed_by, differences)

    def trust_rule(self, where: str, wanted: WantedTrustRule) -> None:
        thing = Thing(Kind.TRUST_RULE, wanted.name)
        if not self._may_be_planned(where, thing, wanted):
            return
        rule = self._known.trust_rules.get(wanted.name)
        before = {} if rule is None else self._terms_of_rule(rule)
        claims = {} if rule is None else rule.claims
        differences = (
            *differences_of_map("claims", claims, wanted.claims),
            *_differences(before, _rule_terms(wanted)),
        )
        if rule is None:
            self._draft.changes.append(Change(thing, Deed.CREATE, differences, where))
        else:
            self._draft.settle(where, thing, rule.id, rule.managed_by, differences)

    def what_is_not_named(self) -> None:
        """Tokens and rules that the file made and no longer names are pruned, if it is asked for."""
        names = {token.name for token in self._wanted.tokens}
        for token in self._known.tokens.values():
            if token.managed_by == self._wanted.name and token.name not in names:
                self._draft.not_named(Thing(Kind.TOKEN, token.name), Deed.REVOKE, token.id)
        names = {rule.name for rule in self._wanted.trust_rules}
        for rule in self._known.trust_rules.values():
            if rule.managed_by == self._wanted.name and rule.name not in names:
                self._draft.not_named(Thing(Kind.TRUST_RULE, rule.name), Deed.REVOKE, rule.id)

    def _may_be_planned(self, where: str, thing: Thing, wanted: WantedToken | WantedTrustRule) -> bool:
        """Whether to go on. What exceeds its maker is an error, and is planned to find others."""
        if not self._principal.role.includes(Role.ADMIN):
            self._draft.refuse(where, "forbidden", f"{_called(thing)}s need the role admin")
            return False
        if self._draft.is_there_twice(f"{where}.name", (thing.kind, wanted.name)):
            return False
        own, made_here = self._principal, {project.name for project in self._wanted.projects}
        known = self._known.projects
        if any(name not in known and name not in made_here for name in wanted.projects or ()):
            self._draft.refuse(f"{where}.projects", "no-such-project", "names a project that does not exist")
        scope = scope_of(wanted, {name: project.id for name, project in known.items()})
        if not own.scope.contains(scope):
            message = f"a {_called(thing)} cannot have a wider scope than its maker's"
            self._draft.refuse(where, "forbidden", message)
        if own.max_leases is not None and (wanted.max_leases is None or wanted.max_leases > own.max_leases):
            message = f"must be at most {own.max_leases}, as its maker's"
            self._draft.refuse(f"{where}.max_leases", "forbidden", message)
        return True

    def _terms_of(self, token: Token) -> dict[str, object]:
        names = self._project_names(token.scope)
        return _terms(
            WantedToken(token.name, token.role, names, token.scope.envs, token.max_leases, expires_in=None)
        )

    def _terms_of_rule(self, rule: TrustRule) -> dict[str, object]:
        return _rule_terms(
            WantedTrustRule(
                name=rule.name,
                issuer=rule.issuer,
                claims=rule.claims,
                role=rule.role,
                projects=self._project_names(rule.scope),
                envs=rule.scope.envs,
                max_leases=rule.max_leases,
                max_leases_of_all=rule.max_leases_of_all,
                token_ttl=rule.token_ttl,
                once=rule.once,
            )
        )

    def _project_names(self, scope: Scope) -> frozenset[str] | None:
        return None if scope.projects is None else frozenset(map(self._known.project_name, scope.projects))


def scope_of(wanted: WantedToken | WantedTrustRule, ids: Mapping[str, UUID]) -> Scope:
    """The scope that is wanted, without projects that do not exist yet."""
    projects = (
        None if wanted.projects is None else frozenset(ids[name] for name in wanted.projects if name in ids)
    )
    return Scope(projects, wanted.envs)


def _terms(wanted: WantedToken | WantedTrustRule) -> dict[str, object]:
    return {
        "role": wanted.role,
        "projects": _sorted_or_all(wanted.projects),
        "envs": _sorted_or_all(wanted.envs),
        "max_leases": wanted.max_leases,
    }


def _rule_terms(rule: WantedTrustRule) -> dict[str, object]:
    """All but the claims, which are compared one by one."""
    return {
        "issuer": rule.issuer,
        **_terms(rule),
        "max_leases_of_all": rule.max_leases_of_all,
        "token_ttl": rule.token_ttl,
        "once": rule.once,
    }


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[Difference, ...]:
    """All fields of something new, which has no `before`."""
    return tuple(
        Difference(name, before.get(name), value)
        for name, value in after.items()
        if not before or before[name] != value
    )


def _called(thing: Thing) -> str:
    return thing.kind.replace("_", " ")


def _sorted_or_all(names: frozenset[str] | None) -> list[str]:
    return ["*"] if names is None else sorted(names)
