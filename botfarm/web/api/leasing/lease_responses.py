"""Answers about leases, with the credentials of their users."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from botfarm.domain.leases import Due, EndedBy, Outcome, Purpose, Reason
from botfarm.web.api.shared.response_body import (
    AskedLabelsOut,
    Identified,
    OfPool,
    ResponseBody,
    is_absent,
    is_empty,
)


class TotpOut(ResponseBody):
    code: str = Field(repr=False)
    expires_in: Annotated[float, Field(description="Seconds until the next code.")]


class LeasedUserOut(OfPool, Identified):
    """Credentials are there for the holder of the live lease only."""

    login: str
    password: str | SkipJsonSchema[None] = Field(default=None, exclude_if=is_absent, repr=False)
    secrets: dict[str, Any] | SkipJsonSchema[None] = Field(default=None, exclude_if=is_absent, repr=False)
    pending_password: str | SkipJsonSchema[None] = Field(
        default=None,
        exclude_if=is_absent,
        repr=False,
        description="For keepers, while a rotation is under way.",
    )
    totp: SkipJsonSchema[None] | TotpOut = Field(default=None, exclude_if=is_absent)
    locktime: datetime | None
    labels: dict[str, str]
    due: list[Due] = Field(default=[], exclude_if=is_empty, description="Of a chore: what is to be done.")
    outcome: SkipJsonSchema[None] | Outcome = Field(default=None, exclude_if=is_absent)
    reason: SkipJsonSchema[None] | Reason = Field(default=None, exclude_if=is_absent)
    note: str | SkipJsonSchema[None] = Field(default=None, exclude_if=is_absent)


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


class RotationOut(ResponseBody):
    pending_password: str = Field(repr=False)
