"""Pools: the users of one project, env and domain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from botfarm.domain.health import Health

SHORT_NAME = "[a-z0-9][a-z0-9._-]{0,31}"
"""The pattern of the name of an env or a domain. Each project has its own."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The users of one project, env and domain. A request names one pool; each pool has one queue."""

    project_id: UUID
    env: str
    domain: str


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The number of users by state at one moment, in a pool or among its users with certain labels."""

    total: int
    """Without retired ones."""
    free: int
    leased: int
    resting: int
    dirty: int
    chore: int
    held: int
    quarantined: int
    retired: int
    next_free_in: float | None
    """Seconds until time alone frees the next user; null when it will free none."""
    waiting: int = 0
    """Tests that wait."""
    waiting_since: datetime | None = None
    """When the oldest waiting request arrived; null when none waits."""
    oldest_wait: float | None = None
    """Seconds since then."""
    waiting_for_one: int = 0
    """Of the requests that wait: those for one particular user. They hold up nobody else."""


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: Pool
    project_name: str
    counts: PoolCounts
    health: Mapping[Health, int]
    """Users by health, without retired ones."""
    oldest_dirty: float | None
    """Seconds for which the user has been dirty that has been longest."""
