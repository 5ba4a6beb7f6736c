"""Answers about tokens, sessions and the audit."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AliasGenerator, AliasPath, ConfigDict, Field

from botfarm.domain.access import Role
from botfarm.web.api.shared.response_body import Chosen, ManagedBy, ResponseBody


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
