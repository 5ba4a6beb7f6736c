"""The pool: the users of one project, env and domain, leased by one kind of request."""

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
    """The users of one (project, env, domain): the unit of one request and one queue."""

    project_id: UUID
    env: Env
    domain: Domain


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """How the users of a pool (or those of them that match some labels) stand at one moment."""

    total: int
    free: int
    leased: int
    resting: int
    quarantined: int
    next_free_in: float | None
    """Seconds until the next user that is not free becomes free by time alone; null when none will."""
    waiting: int = 0
    oldest_wait: float | None = None


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: Pool
    project_name: str
    counts: PoolCounts
