"""The queue of a pool: its tickets as the API shows them, and its order as a replica reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.wanted_labels import WantedLabels

PRIORITY_STEP = 60
"""Seconds: a ticket ranks by its arrival, earlier by so much for each step of its priority."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A waiting request, as the API shows it."""

    id: int
    place: int
    """Its position in the queue of its pool; 1 is next."""
    pool: Pool
    purpose: Purpose
    count: int
    labels: WantedLabels
    login: str | None
    """Of the one user that it waits for; null when any that matches will do."""
    priority: int
    principal: str
    owner: str | None
    arrived_at: datetime
    waited: float
    """Seconds since the request arrived. Retries under its key do not change that moment."""
    ends_in: float
    """Seconds until the request is answered, at the latest."""
    expected_in: float | None
    """Seconds until it probably gets its users: by the requests before it, and by how long users of the pool were held.

    Null when no lease of the pool tells, and for keepers.
    """

    @property
    def ends_at(self) -> datetime:
        """When the request is answered, at the latest."""
        return self.arrived_at + timedelta(seconds=round(self.waited + self.ends_in))


@dataclass(frozen=True, slots=True)
class TicketFilter:
    """Null means any."""

    project_id: UUID | None = None
    env: str | None = None
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A ticket in the queue of its pool."""

    ticket_id: int
    wanted: int
    """The number of what it asks for: labels, or one user."""
    count: int
    is_ours: bool
    """True for a ticket of this process, which alone may grant it."""
    rank: float = 0.0
    """Its arrival, less the steps of its priority, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Queue:
    """The tickets of a pool that can be granted or hold up others, and the free users, at one moment."""

    places: Sequence[Place]
    """In the order of the queue."""
    free: Mapping[frozenset[int], int]
    """The free users, counted by exactly what they match."""
    due_in: float | None = None
    """Seconds until time alone frees the next user; null when it will free none."""
    first: int | None = None
    """The id of the first ticket; null when there is none, or too few users are in service for it."""
