"""Pools: the users of one project, env and domain."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Env(StrEnum):
    PROD = "prod"
    PREPROD = "preprod"
    STAGE = "stage"


class Domain(StrEnum):
    CANARY = "canary"
    REGULAR = "regular"


@dataclass(frozen=True, slots=True)
class Pool:
    """The users of one project, env and domain. A request names one pool; each pool has one queue."""

    project_id: UUID
    env: Env
    domain: Domain


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The number of users by state at one moment, in a pool or among its users with certain labels."""

    total: int
    free: int
    leased: int
    resting: int
    quarantined: int
    next_free_in: float | None
    """Seconds until time alone frees the next user; null when it will free none."""
    waiting: int = 0
    oldest_wait: float | None = None
    """Seconds that the oldest waiting request has waited; null when none waits."""


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: Pool
    project_name: str
    counts: PoolCounts
