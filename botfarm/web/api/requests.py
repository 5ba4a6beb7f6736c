"""What all bodies that come in share, and the bodies about projects, tokens and sessions.

They refuse unknown fields, and numbers that are not numbers.
"""

from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.access import Role
from botfarm.domain.logins import Logins
from botfarm.domain.pools import SHORT_NAME
from botfarm.domain.projects import (
    DEFAULT_DOMAINS,
    DEFAULT_ENVS,
    Cleaning,
    ProjectChanges,
    ProjectPolicy,
    id_or_name,
)
from botfarm.web.api.fields import (
    Attempts,
    Cooldown,
    Integer,
    Interval,
    LockDelay,
    MaxHold,
    Password,
    ProjectName,
    Share,
    ShortNames,
    SomeAttempts,
    Text,
    TokenName,
    Ttl,
)

EVERYTHING = "*"
FIRST_DOMAIN = "The first one is that of an acquire that names none."
_POLICY = ProjectPolicy()
# The default of a field that may be absent and must not be null, because null could not be merged.
ABSENT: Any = None
_LOGINS = Field(description="What new logins may be: addresses, or any printable text.")


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


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


class NewToken(RequestBody):
    name: TokenName
    role: Role
    projects: Annotated[
        list[Annotated[Text, StringConstraints(min_length=1, max_length=64)]],
        Field(min_length=1, max_length=100, description='Ids or names; `["*"]` means all.'),
    ]
    envs: Annotated[
        list[Annotated[str, StringConstraints(pattern=rf"^({SHORT_NAME}|\*)$")]],
        Field(min_length=1, max_length=100, description='`["*"]` means all.'),
    ]
    max_leases: Annotated[
        Integer | None, Field(ge=1, le=1_000_000, description="Users held at the same time.")
    ] = None
    expires_in: Annotated[
        Integer | None,
        Field(
            ge=1,
            le=315_360_000,
            description="Seconds; null: it does not expire. Absent: 90 days when an operator makes it, "
            "else it does not expire. What a token makes ends with it at the latest.",
        ),
    ] = None

    @field_validator("projects", "envs")
    @classmethod
    def _all_stands_alone(cls, chosen: list[str]) -> list[str]:
        if EVERYTHING in chosen and len(chosen) > 1:
            raise PydanticCustomError("invalid", "all of them stands alone")
        return chosen

    def chosen_life(self, *, default: int | None) -> int | None:
        return self.expires_in if "expires_in" in self.model_fields_set else default

    @property
    def chosen_projects(self) -> list[UUID | str] | None:
        return None if EVERYTHING in self.projects else [id_or_name(each) for each in self.projects]

    @property
    def chosen_envs(self) -> list[str] | None:
        return None if EVERYTHING in self.envs else self.envs


class SignIn(RequestBody):
    name: Annotated[Text, Field(min_length=1, max_length=320)]
    password: Password
