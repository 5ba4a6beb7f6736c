"""Compares what a file wants with what the farm has: the changes, and what is left as it is."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from botfarm.db.stock.managed_queries import KnownUser
from botfarm.domain.access import Principal, Role
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
    WantedUser,
    WhyLeft,
)
from botfarm.domain.logins import Logins, login_key
from botfarm.domain.projects import DEFAULT_DOMAINS, DEFAULT_ENVS, Project
from botfarm.errors import ChangedMeanwhileError, InvalidRequestError
from botfarm.services.configuration.access_planning import AccessPlanning
from botfarm.services.configuration.known_farm import KnownFarm
from botfarm.services.configuration.plan_draft import PlanDraft, differences_of_map

MAX_ERRORS = 100
"""Errors of one answer."""


def make_plan(principal: Principal, wanted: WantedFarm, known: KnownFarm) -> Plan:
    """Raises InvalidRequestError, which names each place of the file that cannot be carried out."""
    draft = PlanDraft(wanted)
    stock, access = (
        _StockPlanning(principal, wanted, known, draft),
        AccessPlanning(principal, wanted, known, draft),
    )
    for number, project in enumerate(wanted.projects):
        stock.project(f"projects.{number}", project)
    for number, token in enumerate(wanted.tokens):
        access.token(f"tokens.{number}", token)
    for number, rule in enumerate(wanted.trust_rules):
        access.trust_rule(f"trust_rules.{number}", rule)
    stock.what_is_not_named()
    access.what_is_not_named()
    if draft.errors:
        raise InvalidRequestError(*draft.errors[:MAX_ERRORS])
    changes = tuple(draft.changes)
    return Plan(changes, tuple(draft.left_alone), tuple(draft.unnamed), _fingerprint(wanted.name, changes))


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


class _StockPlanning:
    """Projects and users."""

    def __init__(self, principal: Principal, wanted: WantedFarm, known: KnownFarm, draft: PlanDraft) -> None:
        self._principal = principal
        self._wanted = wanted
        self._known = known
        self._draft = draft
        self._named_users: set[UUID] = set()

    def project(self, where: str, wanted: WantedProject) -> None:
        if self._draft.is_there_twice(f"{where}.name", ("project", wanted.name)):
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
            if self._draft.settle(where, thing, project.id, project.managed_by, differences):
                self._require_admin_of_all_envs(where)
        rules = _Rules.of(project, wanted)
        for number, user in enumerate(wanted.users):
            self._user(f"{where}.users.{number}", project, wanted.name, rules, user)

    def what_is_not_named(self) -> None:
        """Users that the file made and no longer names are pruned, if it is asked for."""
        for user in self._known.managed_users:
            if user.id not in self._named_users and not user.is_retired:
                thing = Thing(Kind.USER, user.login, user.project_name, user.pool.env)
                self._draft.not_named(thing, Deed.RETIRE, user.id)
        projects = {project.name for project in self._wanted.projects}
        for project in self._known.projects.values():
            if project.managed_by == self._wanted.name and project.name not in projects:
                self._draft.unnamed.append(Thing(Kind.PROJECT, project.name, project.name))

    def _new_project(self, where: str, thing: Thing, wanted: WantedProject) -> None:
        if not (self._principal.role.includes(Role.ADMIN) and self._principal.scope.is_whole):
            message = "there is no such project; a new one needs the role admin and a scope of all projects"
            self._draft.refuse(f"{where}.name", "no-such-project", message)
            return
        made = tuple(Difference(name, None, value) for name, value in settings_of(wanted).items())
        self._draft.changes.append(Change(thing, Deed.CREATE, made, where))

    def _user(
        self, where: str, project: Project | None, project_name: str, rules: "_Rules", wanted: WantedUser
    ) -> None:
        key = login_key(wanted.login)
        if self._draft.is_there_twice(f"{where}.login", ("user", project_name, wanted.env, key)):
            return
        if not self._principal.scope.has_env(wanted.env):
            self._draft.refuse(f"{where}.env", "forbidden", "your scope does not have this env")
            return
        if not self._fits(where, rules, wanted):
            return
        user = self._known.users.get((project.id, wanted.env, key)) if project else None
        thing = Thing(Kind.USER, wanted.login, project_name, wanted.env)
        if user is None and not rules.logins.allow(wanted.login):
            self._draft.refuse(f"{where}.login", "invalid", "must be an e-mail address (logins: email)")
            return
        if user is None:
            made = (
                Difference("domain", None, wanted.domain or rules.domains[0]),
                *differences_of_map("labels", {}, wanted.labels or {}),
            )
            self._draft.changes.append(Change(thing, Deed.CREATE, made, where))
            return
        self._named_users.add(user.id)
        differences = tuple(_user_differences(user, wanted))
        if user.is_retired:
            self._draft.left_alone.append(LeftAlone(thing, WhyLeft.RETIRED, differences))
        else:
            self._draft.settle(where, thing, user.id, user.managed_by, differences)

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
                self._draft.refuse(f"{where}.{field}", "unknown", message)
        return all(there is None for there in unknown.values())

    def _require_admin_of_all_envs(self, where: str) -> None:
        if not self._principal.role.includes(Role.ADMIN) or self._principal.scope.envs is not None:
            self._draft.refuse(
                where, "forbidden", "a change of the project needs the role admin and all its envs"
            )


def changed_meanwhile() -> ChangedMeanwhileError:
    return ChangedMeanwhileError(
        "The farm has changed since this plan was made, so nothing was done: plan again."
    )


def settings_of(wanted: WantedProject) -> dict[str, Any]:
    """The settings that the file says; the others stay as they are."""
    return {name: value for name, value in asdict(wanted.settings).items() if value is not None}


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
        yield from differences_of_map("labels", user.labels, wanted.labels)


def _fingerprint(name: str, changes: tuple[Change, ...]) -> str:
    return hashlib.sha256(repr((name, changes)).encode()).hexdigest()[:32]
