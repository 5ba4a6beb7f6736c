"""Compares what a file wants with what the farm has: the changes, and what is left as it is."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from botfarm.db.stock.managed_queries import KnownUser
from botfarm.domain.access import Principal, Role, Scope, Token
from botfarm.domain.configuration import (
    Change,
    Deed,
    Difference,
    Kind,
    LeftAlone,
    Plan,
    Thing,
    WantedFarm,
    WantedProject,
    WantedToken,
    WantedUser,
    WhyLeft,
)
from botfarm.domain.logins import Logins, login_key
from botfarm.domain.projects import DEFAULT_DOMAINS, DEFAULT_ENVS, Project
from botfarm.errors import ChangedMeanwhileError, FieldError, InvalidRequestError
from botfarm.services.configuration.known_farm import KnownFarm

MAX_ERRORS = 100
"""Errors of one answer."""


def make_plan(principal: Principal, wanted: WantedFarm, known: KnownFarm) -> Plan:
    """Raises InvalidRequestError, which names each place of the file that cannot be carried out."""
    planning = _Planning(principal, wanted, known)
    for number, project in enumerate(wanted.projects):
        planning.project(f"projects.{number}", project)
    for number, token in enumerate(wanted.tokens):
        planning.token(f"tokens.{number}", token)
    planning.what_is_not_named()
    if planning.errors:
        raise InvalidRequestError(*planning.errors[:MAX_ERRORS])
    changes = tuple(planning.changes)
    return Plan(
        changes, tuple(planning.left_alone), tuple(planning.unnamed), _fingerprint(wanted.name, changes)
    )


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the users of a project may be, once the file is applied."""

    envs: tuple[str, ...]
    domains: tuple[str, ...]
    logins: Logins

    @staticmethod
    def of(project: Project | None, wanted: WantedProject) -> "_Rules":
        return _Rules(
            envs=wanted.settings.envs or (project.envs if project else DEFAULT_ENVS),
            domains=wanted.settings.domains or (project.domains if project else DEFAULT_DOMAINS),
            logins=wanted.settings.logins or (project.policy.logins if project else Logins.EMAIL),
        )


class _Planning:
    def __init__(self, principal: Principal, wanted: WantedFarm, known: KnownFarm) -> None:
        self.changes: list[Change] = []
        self.left_alone: list[LeftAlone] = []
        self.unnamed: list[Thing] = []
        self.errors: list[FieldError] = []
        self._principal = principal
        self._wanted = wanted
        self._known = known
        self._named_users: set[UUID] = set()
        self._places: dict[object, str] = {}

    def project(self, where: str, wanted: WantedProject) -> None:
        if self._is_there_twice(f"{where}.name", ("project", wanted.name)):
            return
        project = self._known.projects.get(wanted.name)
        thing = Thing(Kind.PROJECT, wanted.name, wanted.name)
        if project is None:
            self._new_project(where, thing, wanted)
        elif settings := settings_of(wanted):
            before = _settings_of(project)
            if self._principal.scope.envs is not None:  # it must not see the other ones
                settings.pop("envs", None)
            differences = tuple(
                Difference(name, before[name], value)
                for name, value in settings.items()
                if before[name] != value
            )
            if self._settle(where, thing, project.id, project.managed_by, differences):
                self._require_admin_of_all_envs(where)
        rules = _Rules.of(project, wanted)
        for number, user in enumerate(wanted.users):
            self._user(f"{where}.users.{number}", project, wanted.name, rules, user)

    def token(self, where: str, wanted: WantedToken) -> None:
        if not self._principal.role.includes(Role.ADMIN):
            self._refuse(where, "forbidden", "tokens need the role admin")
            return
        if self._is_there_twice(f"{where}.name", ("token", wanted.name)):
            return
        self._require_within_own(where, wanted)
        thing, after = Thing(Kind.TOKEN, wanted.name), _terms(wanted)
        token = self._known.tokens.get(wanted.name)
        if token is None:
            made = tuple(Difference(name, None, value) for name, value in after.items())
            self.changes.append(Change(thing, Deed.CREATE, made, where))
            return
        before = self._terms_of(token)
        differences = tuple(
            Difference(name, before[name], value) for name, value in after.items() if before[name] != value
        )
        self._settle(where, thing, token.id, token.managed_by, differences)

    def what_is_not_named(self) -> None:
        """Users and tokens that the file made and no longer names are pruned, if it is asked for."""
        for user in self._known.managed_users:
            if user.id not in self._named_users and not user.is_retired:
                thing = Thing(Kind.USER, user.login, user.project_name, user.pool.env)
                self._not_named(thing, Deed.RETIRE, user.id)
        names = {token.name for token in self._wanted.tokens}
        for token in self._known.tokens.values():
            if token.managed_by == self._wanted.name and token.name not in names:
                self._not_named(Thing(Kind.TOKEN, token.name), Deed.REVOKE, token.id)
        projects = {project.name for project in self._wanted.projects}
        for project in self._known.projects.values():
            if project.managed_by == self._wanted.name and project.name not in projects:
                self.unnamed.append(Thing(Kind.PROJECT, project.name, project.name))

    def _new_project(self, where: str, thing: Thing, wanted: WantedProject) -> None:
        if not (self._principal.role.includes(Role.ADMIN) and self._principal.scope.is_whole):
            message = "there is no such project; a new one needs the role admin and a scope of all projects"
            self._refuse(f"{where}.name", "no-such-project", message)
            return
        made = tuple(Difference(name, None, value) for name, value in settings_of(wanted).items())
        self.changes.append(Change(thing, Deed.CREATE, made, where))

    def _user(
        self, where: str, project: Project | None, project_name: str, rules: "_Rules", wanted: WantedUser
    ) -> None:
        key = login_key(wanted.login)
        if self._is_there_twice(f"{where}.login", ("user", project_name, wanted.env, key)):
            return
        if not self._principal.scope.has_env(wanted.env):
            self._refuse(f"{where}.env", "forbidden", "your scope does not have this env")
            return
        if not self._fits(where, rules, wanted):
            return
        user = self._known.users.get((project.id, wanted.env, key)) if project else None
        thing = Thing(Kind.USER, wanted.login, project_name, wanted.env)
        if user is None and not rules.logins.allow(wanted.login):
            self._refuse(f"{where}.login", "invalid", "must be an e-mail address (logins: email)")
            return
        if user is None:
            made = (
                Difference("domain", None, wanted.domain or rules.domains[0]),
                *_labels({}, wanted.labels or {}),
            )
            self.changes.append(Change(thing, Deed.CREATE, made, where))
            return
        self._named_users.add(user.id)
        differences = tuple(_user_differences(user, wanted))
        if user.is_retired:
            self.left_alone.append(LeftAlone(thing, WhyLeft.RETIRED, differences))
        else:
            self._settle(where, thing, user.id, user.managed_by, differences)

    def _fits(self, where: str, rules: "_Rules", wanted: WantedUser) -> bool:
        """Whether the project has the env and the domain of the user."""
        envs = [env for env in rules.envs if self._principal.scope.has_env(env)]
        unknown = {
            "env": envs if wanted.env not in envs else None,
            "domain": rules.domains if wanted.domain not in {None, *rules.domains} else None,
        }
        for field, there in unknown.items():
            if there is not None:
                message = f"must be one that the project has: {', '.join(there)}"
                self._refuse(f"{where}.{field}", "unknown", message)
        return all(there is None for there in unknown.values())

    def _settle(
        self,
        where: str,
        thing: Thing,
        thing_id: UUID | str,
        managed_by: str | None,
        differences: tuple[Difference, ...],
    ) -> bool:
        """Changes what is there, if it is the file's or the file takes it over. True when it is to be changed."""
        if managed_by == self._wanted.name:
            if differences:
                self.changes.append(Change(thing, Deed.UPDATE, differences, where, thing_id))
            return bool(differences)
        if self._wanted.adopt:
            self.changes.append(Change(thing, Deed.ADOPT, differences, where, thing_id))
            return True
        reason = WhyLeft.NOT_MANAGED if managed_by is None else WhyLeft.MANAGED_ELSEWHERE
        self.left_alone.append(LeftAlone(thing, reason, differences))
        return False

    def _not_named(self, thing: Thing, deed: Deed, thing_id: UUID | str) -> None:
        if self._wanted.prune:
            self.changes.append(Change(thing, deed, id=thing_id))
        else:
            self.unnamed.append(thing)

    def _is_there_twice(self, where: str, key: object) -> bool:
        first = self._places.setdefault(key, where)
        if first != where:
            self._refuse(where, "duplicate", "is in the file twice: two of the same are one account")
        return first != where

    def _require_admin_of_all_envs(self, where: str) -> None:
        if not self._principal.role.includes(Role.ADMIN) or self._principal.scope.envs is not None:
            self._refuse(where, "forbidden", "a change of the project needs the role admin and all its envs")

    def _require_within_own(self, where: str, wanted: WantedToken) -> None:
        own, made_here = self._principal, {project.name for project in self._wanted.projects}
        known = self._known.projects
        if any(name not in known and name not in made_here for name in wanted.projects or ()):
            self._refuse(f"{where}.projects", "no-such-project", "names a project that does not exist")
        scope = token_scope(wanted, {name: project.id for name, project in known.items()})
        if not own.scope.contains(scope):
            self._refuse(where, "forbidden", "a token cannot have a wider scope than its maker's")
        if own.max_leases is not None and (wanted.max_leases is None or wanted.max_leases > own.max_leases):
            self._refuse(
                f"{where}.max_leases", "forbidden", f"must be at most {own.max_leases}, as its maker's"
            )

    def _terms_of(self, token: Token) -> dict[str, object]:
        scope = token.scope
        names = None if scope.projects is None else frozenset(map(self._known.project_name, scope.projects))
        wanted = WantedToken(token.name, token.role, names, scope.envs, token.max_leases, None)
        return _terms(wanted)

    def _refuse(self, where: str, code: str, message: str) -> None:
        self.errors.append(FieldError(where, code, message))


def changed_meanwhile() -> ChangedMeanwhileError:
    return ChangedMeanwhileError(
        "The farm has changed since this plan was made, so nothing was done: plan again."
    )


def settings_of(wanted: WantedProject) -> dict[str, Any]:
    """The settings that the file says; the others stay as they are."""
    return {name: value for name, value in asdict(wanted.settings).items() if value is not None}


def token_scope(wanted: WantedToken, ids: Mapping[str, UUID]) -> Scope:
    """The scope of a token, without projects that do not exist yet."""
    projects = (
        None if wanted.projects is None else frozenset(ids[name] for name in wanted.projects if name in ids)
    )
    return Scope(projects, wanted.envs)


def _settings_of(project: Project) -> dict[str, object]:
    return {
        "name": project.name,
        "envs": project.envs,
        "domains": project.domains,
        **asdict(project.policy),
    }


def _user_differences(user: KnownUser, wanted: WantedUser) -> Iterator[Difference]:
    if wanted.domain is not None and wanted.domain != user.pool.domain:
        yield Difference("domain", user.pool.domain, wanted.domain)
    if wanted.labels is not None:
        yield from _labels(user.labels, wanted.labels)


def _labels(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for key in sorted({*before, *after}):
        if before.get(key) != after.get(key):
            yield Difference(f"labels.{key}", before.get(key), after.get(key))


def _terms(token: WantedToken) -> dict[str, object]:
    return {
        "role": token.role,
        "projects": _sorted_or_all(token.projects),
        "envs": _sorted_or_all(token.envs),
        "max_leases": token.max_leases,
    }


def _sorted_or_all(names: frozenset[str] | None) -> list[str]:
    return ["*"] if names is None else sorted(names)


def _fingerprint(name: str, changes: tuple[Change, ...]) -> str:
    return hashlib.sha256(repr((name, changes)).encode()).hexdigest()[:32]
