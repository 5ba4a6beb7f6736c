"""Bodies of answers, read from the domain objects that routes return."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID

from pydantic import AliasGenerator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from botfarm.domain.access import Role
from botfarm.domain.leases import EndedBy, Outcome
from botfarm.domain.pools import Domain, Env
from botfarm.domain.users import UserState, UserStatus

Item = TypeVar("Item")


def _all_or_sorted(chosen: Collection[object] | None) -> list[str]:
    return ["*"] if chosen is None else sorted(map(str, chosen))


Chosen = Annotated[list[str], BeforeValidator(_all_or_sorted)]


class ResponseBody(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PageOut(ResponseBody, Generic[Item]):
    items: list[Item]
    next_cursor: Annotated[
        str | None, Field(description="Send it as `cursor` for the next page; null on the last.")
    ]


class ListOut(ResponseBody, Generic[Item]):
    items: list[Item]


class ProjectOut(ResponseBody):
    """Durations are seconds."""

    id: UUID
    created_at: datetime
    name: str
    default_ttl: int = Field(validation_alias=AliasPath("policy", "default_ttl"))
    max_ttl: int = Field(validation_alias=AliasPath("policy", "max_ttl"))
    max_hold: int = Field(validation_alias=AliasPath("policy", "max_hold"))
    lock_delay: int = Field(validation_alias=AliasPath("policy", "lock_delay"))
    cooldown: int = Field(validation_alias=AliasPath("policy", "cooldown"))


class Identified(ResponseBody):
    id: UUID


class OfPool(ResponseBody):
    project_id: UUID = Field(validation_alias=AliasPath("pool", "project_id"))
    env: Env = Field(validation_alias=AliasPath("pool", "env"))
    domain: Domain = Field(validation_alias=AliasPath("pool", "domain"))


class UserOut(OfPool, Identified):
    created_at: datetime
    login: str
    state: UserState
    locktime: datetime | None
    expires_at: datetime | None
    available_at: datetime
    lease_id: Annotated[UUID | None, Field(description="Its last lease, kept after the release.")]
    labels: dict[str, str]
    status: UserStatus
    status_reason: str | None
    status_since: datetime | None
    has_secrets: bool
    has_totp: bool


class LastLeaseOut(Identified):
    """Who used it last."""

    fence: int
    principal: str
    owner: str | None
    metadata: dict[str, Any]
    acquired_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    outcome: Outcome | None
    note: Annotated[str | None, Field(description="What its release said, or why it was forced.")]


class UserDetailsOut(UserOut):
    last_lease: LastLeaseOut | None


class TotpOut(ResponseBody):
    code: str = Field(repr=False)
    expires_in: Annotated[float, Field(description="Seconds until the next code.")]


def _is_absent(value: object) -> bool:
    return value is None


class LeasedUserOut(OfPool, Identified):
    """Credentials are there for the holder of the live lease only."""

    login: str
    password: str | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent, repr=False)
    secrets: dict[str, Any] | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent, repr=False)
    totp: TotpOut | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent)
    locktime: datetime | None
    labels: dict[str, str]


class LineErrorOut(ResponseBody):
    line: int
    field: str
    code: str


class ImportOut(ResponseBody):
    created: int
    skipped: int
    errors: list[LineErrorOut]


class LeaseOut(OfPool, Identified):
    fence: int
    owner: str | None
    metadata: dict[str, Any]
    acquired_at: datetime
    expires_at: datetime
    expires_in: Annotated[float, Field(description="Seconds it has left; 0 when it has ended.")]
    ttl_seconds: int
    hold_until: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    outcome: Outcome | None
    users: list[LeasedUserOut]


class TokenOut(ResponseBody):
    id: str
    name: str
    role: Role
    projects: Chosen = Field(
        validation_alias=AliasPath("scope", "projects"), description='Ids, or `["*"]` for all.'
    )
    envs: Chosen = Field(validation_alias=AliasPath("scope", "envs"), description='`["*"]` for all.')
    max_leases: int | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: Annotated[datetime | None, Field(description="To the minute.")]


class MadeTokenOut(TokenOut):
    # What a token has comes from the token that was made, under the names and paths that it has there.
    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=lambda n: AliasPath("token", n))
    )

    projects: Chosen = Field(
        validation_alias=AliasPath("token", "scope", "projects"), description='Ids, or `["*"]` for all.'
    )
    envs: Chosen = Field(validation_alias=AliasPath("token", "scope", "envs"), description='`["*"]` for all.')
    token: Annotated[
        str,
        Field(
            validation_alias="written",
            repr=False,
            description="The token itself. Nothing will show it again.",
        ),
    ]


class AuditEntryOut(ResponseBody):
    at: datetime
    principal: str
    address: str | None
    request_id: str | None
    action: str
    target: str
    target_id: str
    project_id: UUID | None
    env: Env | None
    details: dict[str, Any]


class TicketOut(OfPool):
    """A request that waits."""

    id: int
    place: Annotated[int, Field(description="In the line of its pool; 1 is next.")]
    count: int
    labels: dict[str, str]
    priority: int
    principal: str
    owner: str | None
    arrived_at: datetime
    waited: Annotated[float, Field(description="Seconds since its first request under its key.")]
    ends_in: Annotated[float, Field(description="Seconds until it is answered, with users or without.")]


class PoolOut(OfPool):
    project: str = Field(validation_alias=AliasPath("project_name"))
    total: int = Field(validation_alias=AliasPath("counts", "total"))
    free: int = Field(validation_alias=AliasPath("counts", "free"))
    leased: int = Field(validation_alias=AliasPath("counts", "leased"))
    resting: int = Field(validation_alias=AliasPath("counts", "resting"))
    quarantined: int = Field(validation_alias=AliasPath("counts", "quarantined"))
    waiting: int = Field(validation_alias=AliasPath("counts", "waiting"))
    oldest_wait: float | None = Field(validation_alias=AliasPath("counts", "oldest_wait"))
    next_free_in: float | None = Field(validation_alias=AliasPath("counts", "next_free_in"))


class SessionOut(ResponseBody):
    name: str = Field(validation_alias=AliasPath("operator", "name"))
    role: Role = Field(validation_alias=AliasPath("operator", "role"))
    projects: Chosen = Field(
        validation_alias=AliasPath("operator", "scope", "projects"), description='Ids, or `["*"]` for all.'
    )
    envs: Chosen = Field(
        validation_alias=AliasPath("operator", "scope", "envs"), description='`["*"]` for all.'
    )
    expires_at: datetime


class SignedOut(ResponseBody):
    """Nothing is left to say."""
