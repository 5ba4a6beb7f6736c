"""Bodies about projects."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from botfarm.domain.logins import Logins
from botfarm.domain.projects import DEFAULT_DOMAINS, DEFAULT_ENVS, Cleaning, ProjectChanges, ProjectPolicy
from botfarm.web.api.shared.fields import (
    Attempts,
    Cooldown,
    Interval,
    LockDelay,
    MaxHold,
    ProjectName,
    Share,
    ShortNames,
    SomeAttempts,
    Ttl,
)
from botfarm.web.api.shared.request_body import ABSENT, RequestBody

FIRST_DOMAIN = "The first one is that of an acquire that names none."
_POLICY = ProjectPolicy()
_LOGINS = Field(description="What new logins may be: addresses, or any printable text.")


class NewProject(RequestBody):
    id: UUID | None = None
    name: ProjectName
    envs: ShortNames = list(DEFAULT_ENVS)
    domains: Annotated[ShortNames, Field(description=FIRST_DOMAIN)] = list(DEFAULT_DOMAINS)
    default_ttl: Ttl = _POLICY.default_ttl
    max_ttl: Ttl = _POLICY.max_ttl
    max_hold: MaxHold = _POLICY.max_hold
    lock_delay: LockDelay = _POLICY.lock_delay
    cooldown: Cooldown = _POLICY.cooldown
    login_gap: Cooldown = _POLICY.login_gap
    quarantine_after: Attempts = _POLICY.quarantine_after
    quarantine_share: Share = _POLICY.quarantine_share
    count_expired: bool = _POLICY.count_expired
    cleaning: Cleaning = _POLICY.cleaning
    clean_attempts: SomeAttempts = _POLICY.clean_attempts
    check_every: Interval = _POLICY.check_every
    rotate_every: Interval = _POLICY.rotate_every
    rotate_on_release: bool = _POLICY.rotate_on_release
    session_refresh: Interval = _POLICY.session_refresh
    logins: Annotated[Logins, _LOGINS] = _POLICY.logins

    def policy(self) -> ProjectPolicy:
        return ProjectPolicy(**self.model_dump(exclude={"id", "name", "envs", "domains"}))


class ProjectPolicyPatch(RequestBody):
    """Fields that are absent stay as they are."""

    default_ttl: Ttl = ABSENT
    max_ttl: Ttl = ABSENT
    max_hold: MaxHold = ABSENT
    lock_delay: LockDelay = ABSENT
    cooldown: Cooldown = ABSENT
    login_gap: Cooldown = ABSENT
    quarantine_after: Attempts = ABSENT
    quarantine_share: Share = ABSENT
    count_expired: bool = ABSENT
    cleaning: Cleaning = ABSENT
    clean_attempts: SomeAttempts = ABSENT
    check_every: Interval = ABSENT
    rotate_every: Interval = ABSENT
    rotate_on_release: bool = ABSENT
    session_refresh: Interval = ABSENT


class ProjectUsersPatch(RequestBody):
    """What the users of a project may be. Fields that are absent stay as they are."""

    envs: Annotated[ShortNames, Field(description="All of them. One with users cannot go.")] = ABSENT
    domains: Annotated[ShortNames, Field(description="As envs. " + FIRST_DOMAIN)] = ABSENT
    logins: Annotated[Logins, _LOGINS] = ABSENT


def frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class ProjectPatch(ProjectPolicyPatch, ProjectUsersPatch):
    """Fields that are absent stay as they are."""

    name: ProjectName = ABSENT

    def changes(self) -> ProjectChanges:
        given = self.model_dump(exclude_unset=True)
        return ProjectChanges(**{name: frozen(value) for name, value in given.items()})
