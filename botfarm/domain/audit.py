"""The entries of the audit: who did something, what, from where and when."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from botfarm.domain.pools import Env


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed: who, from where, what, on what, when."""

    at: datetime
    principal: str
    address: str | None
    request_id: str | None
    action: str
    """The operation's name, as in the OpenAPI document, or a command's."""
    target: str
    """`user`, `lease`, `project`, `token`, `operator`, `key`."""
    target_id: str
    project_id: UUID | None
    env: Env | None
    details: Mapping[str, object] = field(default_factory=dict)
    """Names and numbers that say what changed; never a credential."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Null means any."""

    principal: str | None = None
    action: str | None = None
    project_id: UUID | None = None
    target_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
