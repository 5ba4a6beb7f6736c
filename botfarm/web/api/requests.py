"""Bodies that come in. They refuse unknown fields, and numbers that are not numbers."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from botfarm.domain.access import Role
from botfarm.domain.leases import Outcome
from botfarm.domain.pools import Domain, Env
from botfarm.domain.projects import LeasePolicy, id_or_name
from botfarm.domain.users import UserChanges, UserStatus
from botfarm.web.api.fields import (
    Cooldown,
    Integer,
    LabelChanges,
    Labels,
    LockDelay,
    Login,
    MaxHold,
    Metadata,
    Note,
    Owner,
    Password,
    ProjectName,
    SecretChanges,
    Secrets,
    Text,
    TokenName,
    TotpSeed,
    Ttl,
)

EVERYTHING = "*"
_POLICY = LeasePolicy()
# The default of a field that may be absent and must not be null, because null could not be merged.
_ABSENT: Any = None


class RequestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewProject(RequestBody):
    id: UUID | None = None
    name: ProjectName
    default_ttl: Ttl = _POLICY.default_ttl
    max_ttl: Ttl = _POLICY.max_ttl
    max_hold: MaxHold = _POLICY.max_hold
    lock_delay: LockDelay = _POLICY.lock_delay
    cooldown: Cooldown = _POLICY.cooldown


class ProjectPatch(RequestBody):
    """Fields that are absent stay as they are."""

    name: ProjectName = _ABSENT
    default_ttl: Ttl = _ABSENT
    max_ttl: Ttl = _ABSENT
    max_hold: MaxHold = _ABSENT
    lock_delay: LockDelay = _ABSENT
    cooldown: Cooldown = _ABSENT


class NewUser(RequestBody):
    login: Login
    password: Password
    project_id: UUID
    env: Env
    domain: Domain
    labels: Labels = {}
    secrets: Annotated[Secrets | None, Field(repr=False)] = None
    totp_seed: TotpSeed | None = None

    @property
    def plain_totp_seed(self) -> str | None:
        return self.totp_seed.get_secret_value() if self.totp_seed else None


class UserPatch(RequestBody):
    """Fields that are absent stay as they are."""

    login: Login = _ABSENT
    password: Password = _ABSENT
    project_id: UUID = _ABSENT
    env: Env = _ABSENT
    domain: Domain = _ABSENT
    labels: Annotated[LabelChanges, Field(description="Merged into the user's; null removes one.")] = {}
    secrets: Annotated[
        SecretChanges | None,
        Field(repr=False, description="Merged by their names; null removes one, or all of them."),
    ] = {}
    totp_seed: Annotated[TotpSeed | None, Field(description="Null removes it.")] = _ABSENT
    status: UserStatus = _ABSENT
    status_reason: Annotated[Note, Field(description="Goes with the status `quarantined`.")] = _ABSENT

    @field_validator("status_reason")
    @classmethod
    def _of_a_quarantine(cls, reason: str, info: ValidationInfo) -> str:
        if info.data.get("status") is not UserStatus.QUARANTINED:
            raise PydanticCustomError("invalid", "goes with the status quarantined")
        return reason

    def changes(self) -> UserChanges:
        given = self.model_dump(exclude_unset=True, exclude={"password", "secrets", "totp_seed"})
        return UserChanges(
            **given,
            password=self.password.get_secret_value() if self.password else None,
            secrets=self.secrets or {},
            removes_secrets=self.secrets is None,
            totp_seed=self.totp_seed.get_secret_value() if self.totp_seed else None,
            removes_totp_seed="totp_seed" in self.model_fields_set and self.totp_seed is None,
        )


class NewToken(RequestBody):
    name: TokenName
    role: Role
    projects: Annotated[
        list[Annotated[Text, StringConstraints(min_length=1, max_length=64)]],
        Field(min_length=1, max_length=100, description='Ids or names; `["*"]` means all.'),
    ]
    envs: Annotated[
        list[Env | Literal["*"]], Field(min_length=1, max_length=10, description='`["*"]` means all.')
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
    def chosen_envs(self) -> list[Env] | None:
        return None if EVERYTHING in self.envs else [Env(each) for each in self.envs]


class WriteBack(RequestBody):
    """Fields that are absent stay as they are."""

    password: Password = _ABSENT
    secrets: Annotated[
        SecretChanges, Field(repr=False, description="Merged by their names; null removes one.")
    ] = {}


class LockRequest(RequestBody):
    ttl_seconds: Ttl | None = None
    owner: Owner | None = None
    metadata: Metadata = {}


class LeaseRequest(LockRequest):
    project_id: UUID | None = None
    project: Annotated[
        ProjectName | None, Field(validate_default=True, description="Its name, instead of its id.")
    ] = None
    env: Env
    domain: Domain = Domain.REGULAR
    labels: Labels = {}
    count: Annotated[Integer, Field(ge=1, le=100)] = 1
    wait_seconds: Annotated[Integer, Field(ge=0, le=300)] = 0
    priority: Annotated[Integer, Field(ge=-10, le=10)] = 0

    @field_validator("project")
    @classmethod
    def _one_project(cls, project: str | None, info: ValidationInfo) -> str | None:
        if "project_id" in info.data and (project is None) == (info.data["project_id"] is None):
            raise PydanticCustomError("invalid", "give either project_id or project")
        return project


class LockRelease(RequestBody):
    lease_id: UUID | None = None


class Renewal(RequestBody):
    ttl_seconds: Ttl | None = None


class Release(RequestBody):
    outcome: Outcome = Outcome.OK
    note: Note | None = None


class ForcedRelease(RequestBody):
    reason: Note


class SignIn(RequestBody):
    name: Annotated[Text, Field(min_length=1, max_length=320)]
    password: Password
