"""The entries of the audit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One action: when, by whom, from where, and on what."""

    at: datetime
    principal: str
    address: str | None
    request_id: str | None
    action: str
    """The name of the operation, as in the OpenAPI document, or of the command."""
    target: str
    """`user`, `lease`, `project`, `token`, `operator`, `key`."""
    target_id: str
    project_id: UUID | None
    env: str | None
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
