"""Answers about trust rules and exchanged tokens."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AliasPath, Field

from botfarm.domain.access import Role
from botfarm.web.api.shared.response_body import Chosen, ManagedBy, ResponseBody


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
