"""Projects: their envs and domains, the terms of the leases on their users, and the policy on the health of these.

Durations are seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from botfarm.domain.access import Scope
from botfarm.domain.logins import Logins

DEFAULT_ENVS = ("prod", "preprod", "stage")
DEFAULT_DOMAINS = ("regular", "canary")
MAX_NAMES = 32
"""Envs of a project, and as many domains."""


class Cleaning(StrEnum):
    """When a user waits for a keeper after a test."""

    OFF = "off"
    ON_DIRTY = "on_dirty"
    """After a release with the outcome `dirty`."""
    REQUIRED = "required"
    """After every test, however its lease ended."""


@dataclass(frozen=True, slots=True)
class ProjectPolicy:
    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0
    login_gap: int = 0
    """The least time between two grants of one user."""
    quarantine_after: int = 3
    """Failures in a row; 0: never."""
    quarantine_share: float = 0.3
    """Of the users of a pool in service: as many are quarantined by policy within an hour, but at least one."""
    count_expired: bool = False
    """Whether an expired or forced lease of a test counts as a failure."""
    cleaning: Cleaning = Cleaning.OFF
    clean_attempts: int = 3
    """Chores in a row that may fail until the user is quarantined."""
    check_every: int = 0
    """0: never, as for `rotate_every`."""
    rotate_every: int = 0
    rotate_on_release: bool = False
    session_refresh: int = 0
    """How long before its end a kept session is refreshed; 0: never."""
    logins: Logins = Logins.EMAIL
    """Users that are there already keep their logins when this changes."""


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    created_at: datetime
    name: str
    policy: ProjectPolicy
    envs: tuple[str, ...] = DEFAULT_ENVS
    domains: tuple[str, ...] = DEFAULT_DOMAINS
    managed_by: str | None = None
    """The file that made it; null for what was made by other ways."""

    @property
    def default_domain(self) -> str:
        """The domain of a request that names none."""
        return self.domains[0]

    def lacking(self, env: str, domain: str) -> list[Literal["env", "domain"]]:
        """Which of the two the project does not have."""
        lacks: dict[Literal["env", "domain"], bool] = {
            "env": env not in self.envs,
            "domain": domain not in self.domains,
        }
        return [field for field, is_lacking in lacks.items() if is_lacking]

    def within(self, scope: Scope) -> "Project":
        """As the scope sees it: other envs do not exist for it."""
        return replace(self, envs=tuple(env for env in self.envs if scope.has_env(env)))


@dataclass(frozen=True, slots=True)
class ProjectChanges:
    """Null leaves a field as it is."""

    name: str | None = None
    envs: tuple[str, ...] | None = None
    domains: tuple[str, ...] | None = None
    default_ttl: int | None = None
    max_ttl: int | None = None
    max_hold: int | None = None
    lock_delay: int | None = None
    cooldown: int | None = None
    login_gap: int | None = None
    quarantine_after: int | None = None
    quarantine_share: float | None = None
    count_expired: bool | None = None
    cleaning: Cleaning | None = None
    clean_attempts: int | None = None
    check_every: int | None = None
    rotate_every: int | None = None
    rotate_on_release: bool | None = None
    session_refresh: int | None = None
    logins: Logins | None = None


def envs_of(projects: Iterable[Project]) -> list[str]:
    """Each env once, in the order of the projects."""
    return list(dict.fromkeys(env for project in projects for env in project.envs))


def domains_of(projects: Iterable[Project]) -> list[str]:
    """As `envs_of`."""
    return list(dict.fromkeys(domain for project in projects for domain in project.domains))


def id_or_name(text: str) -> UUID | str:
    """Reads the id or the name of a project. No name looks like an id, because such names are refused."""
    try:
        return UUID(text)
    except ValueError:
        return text
