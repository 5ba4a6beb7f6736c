"""Projects: the terms of the leases on their users, and the policy on the health of these. Durations are seconds."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Cleaning(StrEnum):
    """When a user waits for a keeper after a test."""

    OFF = "off"
    ON_DIRTY = "on_dirty"
    """After a release with the outcome `dirty`."""
    REQUIRED = "required"
    """After every test, however its lease ended."""


@dataclass(frozen=True, slots=True)
class ProjectPolicy:
    default_ttl: int = 900
    max_ttl: int = 14_400
    max_hold: int = 43_200
    lock_delay: int = 15
    cooldown: int = 0
    login_gap: int = 0
    """The least time between two grants of one user."""
    quarantine_after: int = 3
    """Failures in a row; 0: never."""
    quarantine_share: float = 0.3
    """Of the users of a pool in service: as many are quarantined by policy within an hour, but at least one."""
    count_expired: bool = False
    """Whether an expired or forced lease of a test counts as a failure."""
    cleaning: Cleaning = Cleaning.OFF
    clean_attempts: int = 3
    """Chores in a row that may fail until the user is quarantined."""
    check_every: int = 0
    """0: never, as for `rotate_every`."""
    rotate_every: int = 0
    rotate_on_release: bool = False
    session_refresh: int = 0
    """How long before its end a kept session is refreshed; 0: never."""


@dataclass(frozen=True, slots=True)
class Project:
    id: UUID
    created_at: datetime
    name: str
    policy: ProjectPolicy
    managed_by: str | None = None
    """The file that made it; null for what was made by other ways."""


@dataclass(frozen=True, slots=True)
class ProjectChanges:
    """Null leaves a field as it is."""

    name: str | None = None
    default_ttl: int | None = None
    max_ttl: int | None = None
    max_hold: int | None = None
    lock_delay: int | None = None
    cooldown: int | None = None
    login_gap: int | None = None
    quarantine_after: int | None = None
    quarantine_share: float | None = None
    count_expired: bool | None = None
    cleaning: Cleaning | None = None
    clean_attempts: int | None = None
    check_every: int | None = None
    rotate_every: int | None = None
    rotate_on_release: bool | None = None
    session_refresh: int | None = None


def id_or_name(text: str) -> UUID | str:
    """Reads the id or the name of a project. No name looks like an id, because such names are refused."""
    try:
        return UUID(text)
    except ValueError:
        return text
