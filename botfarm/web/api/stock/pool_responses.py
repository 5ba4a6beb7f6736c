"""Answers about projects and their pools."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AliasPath, Field

from botfarm.domain.logins import Logins
from botfarm.domain.projects import Cleaning
from botfarm.web.api.shared.response_body import ManagedBy, OfPool, ResponseBody


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
