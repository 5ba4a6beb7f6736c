"""Bodies of answers, read from the domain objects that routes return."""

from collections.abc import Collection
from datetime import date, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import AliasGenerator, AliasPath, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from botfarm.domain.access import Role
from botfarm.domain.health import Health
from botfarm.domain.leases import Due, EndedBy, Outcome, Purpose, Reason
from botfarm.domain.logins import Logins
from botfarm.domain.projects import Cleaning
from botfarm.domain.users import UserState, UserStatus

Item = TypeVar("Item")


def _all_or_sorted(chosen: Collection[object] | None) -> list[str]:
    return ["*"] if chosen is None else sorted(map(str, chosen))


Chosen = Annotated[list[str], BeforeValidator(_all_or_sorted)]
ManagedBy = Annotated[
    str | None, Field(description="The file that made it; null for what was made by other ways.")
]


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
    envs: Annotated[list[str], Field(description="Those of the caller's scope.")]
    domains: Annotated[list[str], Field(description="The first one is that of an acquire that names none.")]
    default_ttl: int = Field(validation_alias=AliasPath("policy", "default_ttl"))
    max_ttl: int = Field(validation_alias=AliasPath("policy", "max_ttl"))
    max_hold: int = Field(validation_alias=AliasPath("policy", "max_hold"))
    lock_delay: int = Field(validation_alias=AliasPath("policy", "lock_delay"))
    cooldown: int = Field(validation_alias=AliasPath("policy", "cooldown"))
    login_gap: int = Field(validation_alias=AliasPath("policy", "login_gap"))
    quarantine_after: int = Field(validation_alias=AliasPath("policy", "quarantine_after"))
    quarantine_share: float = Field(validation_alias=AliasPath("policy", "quarantine_share"))
    count_expired: bool = Field(validation_alias=AliasPath("policy", "count_expired"))
    cleaning: Cleaning = Field(validation_alias=AliasPath("policy", "cleaning"))
    clean_attempts: int = Field(validation_alias=AliasPath("policy", "clean_attempts"))
    check_every: int = Field(validation_alias=AliasPath("policy", "check_every"))
    rotate_every: int = Field(validation_alias=AliasPath("policy", "rotate_every"))
    rotate_on_release: bool = Field(validation_alias=AliasPath("policy", "rotate_on_release"))
    session_refresh: int = Field(validation_alias=AliasPath("policy", "session_refresh"))
    logins: Logins = Field(validation_alias=AliasPath("policy", "logins"))
    managed_by: ManagedBy


class Identified(ResponseBody):
    id: UUID


class OfPool(ResponseBody):
    project_id: UUID = Field(validation_alias=AliasPath("pool", "project_id"))
    env: str = Field(validation_alias=AliasPath("pool", "env"))
    domain: str = Field(validation_alias=AliasPath("pool", "domain"))


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
    status_by: Annotated[str | None, Field(description="The principal, or `policy`.")]
    status_until: Annotated[datetime | None, Field(description="When the quarantine ends by itself.")]
    health: Annotated[Health, Field(description="The result of the last chore.")]
    health_reason: str | None
    checked_at: datetime | None
    healthy_at: datetime | None
    failures: Annotated[int, Field(description="In a row.")]
    rotated_at: datetime | None
    is_rotating: Annotated[bool, Field(description="True while a new password is pending.")]
    session_expires_at: datetime | None
    has_secrets: bool
    has_totp: bool
    managed_by: ManagedBy


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


class UserLeaseOut(Identified):
    fence: int
    purpose: Purpose
    owner: str | None
    metadata: dict[str, Any]
    acquired_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    ended_by: EndedBy | None
    outcome: Outcome | None = Field(validation_alias=AliasPath("verdict", "outcome"))
    reason: Reason | None = Field(validation_alias=AliasPath("verdict", "reason"))
    note: str | None = Field(validation_alias=AliasPath("verdict", "note"))


class HistoryEntryOut(ResponseBody):
    """A lease of the user, or something that was done to it."""

    at: datetime
    action: Annotated[
        str, Field(description="The operation that took the lease, or the action of the audit.")
    ]
    principal: str
    lease: UserLeaseOut | None
    details: Annotated[dict[str, Any], Field(description="Of an action: what it changed, and why.")]


class TotpOut(ResponseBody):
    code: str = Field(repr=False)
    expires_in: Annotated[float, Field(description="Seconds until the next code.")]


AskedLabelsOut = dict[str, str | list[str] | None]
"""A value, several of which one will do, or null for no such label."""


def _is_absent(value: object) -> bool:
    return value is None


def _is_empty(value: Collection[object]) -> bool:
    return not value


class LeasedUserOut(OfPool, Identified):
    """Credentials are there for the holder of the live lease only."""

    login: str
    password: str | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent, repr=False)
    secrets: dict[str, Any] | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent, repr=False)
    pending_password: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=_is_absent,
        repr=False,
        description="For keepers, while a rotation is under way.",
    )
    totp: SkipJsonSchema[None] | TotpOut = Field(default=None, exclude_if=_is_absent)
    locktime: datetime | None
    labels: dict[str, str]
    due: list[Due] = Field(default=[], exclude_if=_is_empty, description="Of a chore: what is to be done.")
    outcome: SkipJsonSchema[None] | Outcome = Field(default=None, exclude_if=_is_absent)
    reason: SkipJsonSchema[None] | Reason = Field(default=None, exclude_if=_is_absent)
    note: str | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_absent)


class BulkFailureOut(Identified):
    login: Annotated[str | None, Field(description="Null for `no-such-user`.")]
    problem: Annotated[str, Field(description="The problem's slug, as the same change of one user has it.")]


class BulkOut(ResponseBody):
    matched: int
    done: Annotated[int, Field(description="Of a dry run: what would be done.")]
    replaced: Annotated[
        int,
        Field(description="Of those: users that were quarantined or retired already and got another reason."),
    ]
    failed: list[BulkFailureOut]


class LineErrorOut(ResponseBody):
    line: int
    field: str
    code: str
    earlier_line: int | SkipJsonSchema[None] = Field(
        default=None, exclude_if=_is_absent, description="Of a `duplicate`: the first line of the account."
    )


class ExportedCredentialsOut(ResponseBody):
    password: str = Field(repr=False)
    secrets: dict[str, Any] | None = Field(repr=False)
    totp_seed: str | None = Field(repr=False)


class ImportOut(ResponseBody):
    created: int
    updated: int
    unchanged: Annotated[int, Field(description="Users that were as their lines say already.")]
    skipped: int
    errors: list[LineErrorOut]


class ExportedUserOut(ResponseBody):
    """As an import takes it; without credentials where none were asked for."""

    login: str = Field(validation_alias=AliasPath("user", "login"))
    project: str
    env: str = Field(validation_alias=AliasPath("user", "pool", "env"))
    domain: str = Field(validation_alias=AliasPath("user", "pool", "domain"))
    labels: dict[str, str] = Field(validation_alias=AliasPath("user", "labels"))
    credentials: Annotated[ExportedCredentialsOut | None, Field(repr=False)]


class LeaseOut(OfPool, Identified):
    fence: int
    purpose: Purpose
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
    reason: Reason | None
    note: Annotated[str | None, Field(description="Of its release, or why it was forced or is held.")]
    requested_at: Annotated[datetime | None, Field(description="When it was first asked for.")]
    waited: Annotated[float | None, Field(description="Seconds until it was granted.")]
    labels: Annotated[AskedLabelsOut | None, Field(description="Those that were asked for.")]
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
    managed_by: ManagedBy


class TrustRuleOut(ResponseBody):
    id: UUID
    name: str
    issuer: str
    claims: dict[str, str]
    role: Role
    projects: Chosen = Field(
        validation_alias=AliasPath("scope", "projects"), description='Ids, or `["*"]` for all.'
    )
    envs: Chosen = Field(validation_alias=AliasPath("scope", "envs"), description='`["*"]` for all.')
    max_leases: int | None
    max_leases_of_all: int | None
    token_ttl: int
    once: bool
    created_at: datetime
    created_by: str
    managed_by: ManagedBy


class ExchangedTokenOut(ResponseBody):
    """RFC 8693, section 2.2.1."""

    access_token: Annotated[str, Field(repr=False)]
    issued_token_type: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(description="Seconds.")]


class ExchangeRefusedOut(ResponseBody):
    """RFC 6749, section 5.2."""

    error: Literal["invalid_request", "invalid_grant", "invalid_target"]
    error_description: str


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
    env: str | None
    details: dict[str, Any]


class TicketOut(OfPool):
    """A request that waits."""

    id: int
    purpose: Purpose
    place: Annotated[int, Field(description="In the line of its pool; 1 is next.")]
    count: int
    labels: Annotated[AskedLabelsOut, Field(description="Those that are asked for.")]
    login: Annotated[str | None, Field(description="Of the one user that it waits for.")]
    priority: int
    principal: str
    owner: str | None
    arrived_at: datetime
    waited: Annotated[float, Field(description="Seconds since its first request under its key.")]
    ends_in: Annotated[float, Field(description="Seconds until it is answered, with users or without.")]
    expected_in: Annotated[
        float | None,
        Field(
            description="Seconds until it probably gets its users, by how long the pool's users were held lately."
        ),
    ]


class PoolOut(OfPool):
    project: str = Field(validation_alias=AliasPath("project_name"))
    total: int = Field(validation_alias=AliasPath("counts", "total"))
    free: int = Field(validation_alias=AliasPath("counts", "free"))
    leased: int = Field(validation_alias=AliasPath("counts", "leased"))
    resting: int = Field(validation_alias=AliasPath("counts", "resting"))
    dirty: int = Field(validation_alias=AliasPath("counts", "dirty"))
    chore: int = Field(validation_alias=AliasPath("counts", "chore"))
    held: int = Field(validation_alias=AliasPath("counts", "held"))
    quarantined: int = Field(validation_alias=AliasPath("counts", "quarantined"))
    retired: int = Field(validation_alias=AliasPath("counts", "retired"))
    waiting: int = Field(validation_alias=AliasPath("counts", "waiting"))
    oldest_wait: float | None = Field(validation_alias=AliasPath("counts", "oldest_wait"))
    next_free_in: float | None = Field(validation_alias=AliasPath("counts", "next_free_in"))


class SizeReplayOut(ResponseBody):
    """Waits in seconds; null where requests would wait for ever."""

    users: int
    p50: float | None
    p95: float | None
    p99: float | None
    share_over_goal: float


class PoolCapacityOut(OfPool):
    project: str = Field(validation_alias=AliasPath("project_name"))
    in_service: int
    needed: int | None = Field(
        description="The least users that keep the goal on every day; null where the history does not tell."
    )
    worst_day: date | None = Field(description="The day of UTC that needs them.")
    sizes: list[SizeReplayOut] = Field(description="The worst day in pools of other sizes.")
    erlang_c: int | None = Field(
        description="What the formula says for the worst day, for comparison: it knows no bursts and no office hours."
    )
    requests: int = Field(description="Requests of tests that were replayed.")
    imputed: int = Field(description="Those that got no user, and are replayed with the median hold.")
    rest_costs: int | None = Field(
        description="How many of the needed users only the rest after leases needs."
    )
    days: int = Field(description="Days with requests.")
    advice: str = Field(description="One sentence.")
    limits: list[str] = Field(description="What the replay does not know, a sentence each.")


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


class RotationOut(ResponseBody):
    pending_password: str = Field(repr=False)


class SignedOut(ResponseBody):
    """Nothing is left to say."""
