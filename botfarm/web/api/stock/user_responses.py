"""Answers about users."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AliasPath, Field

from botfarm.domain.health import Health
from botfarm.domain.leases import EndedBy, Outcome, Purpose, Reason
from botfarm.domain.users import UserState, UserStatus
from botfarm.web.api.shared.response_body import Identified, ManagedBy, OfPool, ResponseBody


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
