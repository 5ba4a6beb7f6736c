"""What each client does and when each fault comes: data that a seed decides before anything starts."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

REPLICAS = tuple(f"replica-{number}" for number in (1, 2, 3))
PROCESSES = (*REPLICAS, "worker")
CLOCK_LANE = "clock"


@dataclass(frozen=True, slots=True)
class RunnerStep:
    """An acquire, some work, and an end."""

    pause: float
    """Seconds before it."""
    wanted: Json
    """The body of the acquire."""
    has_key: bool
    asks_twice: bool
    """Posts its key to two replicas at once, and once more when it has a lease."""
    insists: bool
    """Posts its key once more when it was told that no user is free."""
    hangs_up_after: float | None
    attempts: int
    """At most so many acquires, each at the next replica; more than one only with a key."""
    works: float
    """Seconds."""
    renewals: int
    verdict: Json | None
    """The body of the release; None: the runner dies."""
    says_of_one: Json | None
    """What the release says of its first user, instead of what it says of all."""
    replica: int
    """The number of the first replica that it asks."""


@dataclass(frozen=True, slots=True)
class KeeperStep:
    pause: float
    wanted: Json
    works: float
    rotates: bool
    confirms: bool
    """Without it a rotation is left half-way."""
    writes_back: bool
    verdict: Json | None
    replica: int


@dataclass(frozen=True, slots=True)
class PersonStep:
    """Of a person: by the API or, of a reader, by the page."""

    pause: float
    action: str
    which: int
    """Of the users or leases that the person finds: its number in their list, which goes round."""
    change: Json
    replica: int


@dataclass(frozen=True, slots=True)
class PlannedFault:
    at: float
    """Seconds after the start, at the earliest: the faults of one lane come one after the other."""
    kind: str
    target: str
    seconds: float = 0.0
    """How long it lasts. Of the clock: how far it is stepped, back if negative."""


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    seconds: float
    runners: dict[str, list[RunnerStep]]
    keepers: dict[str, list[KeeperStep]]
    leads: dict[str, list[PersonStep]]
    administrators: dict[str, list[PersonStep]]
    readers: dict[str, list[PersonStep]]
    faults: dict[str, list[PlannedFault]]
    """By lane. The lanes go on beside each other."""

    @property
    def steps_clock(self) -> bool:
        return CLOCK_LANE in self.faults
