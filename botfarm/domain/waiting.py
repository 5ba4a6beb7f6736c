"""Who waits for users, and in which order: the nouns of the line in front of a pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from botfarm.domain.pools import Domain, Env, Pool


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """What is asked for by who is ready to wait."""

    pool: Pool
    principal: str
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    priority: int = 0
    """A minute of waiting for each step."""
    owner: str | None = None
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    payload: object = None
    """Whatever the one who grants it needs to know."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request that waits, as anyone may see it."""

    id: int
    place: int
    """In the line of its pool: 1 is next."""
    pool: Pool
    count: int
    labels: Mapping[str, str]
    priority: int
    principal: str
    owner: str | None
    arrived_at: datetime
    waited: float
    """Seconds since its first request, where it was posted again under its key."""
    ends_in: float
    """Seconds until this request is answered, with users or without."""


@dataclass(frozen=True, slots=True)
class TicketFilter:
    """Null means any."""

    project_id: UUID | None = None
    env: Env | None = None
    domain: Domain | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A ticket in the line of its pool."""

    ticket_id: int
    wanted: int
    """The number of the set of labels that its users must have."""
    count: int
    is_ours: bool
    """Of this process, which alone may grant it."""


@dataclass(frozen=True, slots=True)
class Line:
    """The tickets of a pool that may go or stand in the way of others, in their order, and the users for them."""

    places: Sequence[Place]
    free: Mapping[frozenset[int], int]
    """How many free users match exactly these sets of labels."""
    due_in: float | None = None
    """Seconds until time alone frees the next user."""
