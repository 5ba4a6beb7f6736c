"""Projects, and the terms of the leases on their users. Durations are seconds."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    created_at: datetime
    name: str
    policy: LeasePolicy


@dataclass(frozen=True, slots=True)
class ProjectChanges:
    """Null leaves a field as it is."""

    name: str | None = None
    default_ttl: int | None = None
    max_ttl: int | None = None
    max_hold: int | None = None
    lock_delay: int | None = None
    cooldown: int | None = None


def id_or_name(text: str) -> UUID | str:
    """Reads the id or the name of a project. No name looks like an id, because such names are refused."""
    try:
        return UUID(text)
    except ValueError:
        return text
