"""How many users a pool needs, by a replay of what was asked of it. Durations are seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from botfarm.domain.pools import Pool


@dataclass(frozen=True, slots=True)
class WaitGoal:
    """On every day, at least the share `quantile` of the requests waits at most `seconds`."""

    seconds: float = 30.0
    quantile: float = 0.95
    """More than 0 and less than 1."""
    days: int = 14
    """Calendar days of UTC, the last of them today."""


@dataclass(frozen=True, slots=True)
class SizeReplay:
    """The worst day in a pool of so many users."""

    users: int
    p50: float | None
    """Half of the requests wait at most so long; null where some of them would wait for ever."""
    p95: float | None
    p99: float | None
    share_over_goal: float


@dataclass(frozen=True, slots=True)
class PoolCapacity:
    pool: Pool
    project_name: str
    in_service: int
    """Users that are active or dirty."""
    needed: int | None
    """The least users that keep the goal on every day; null where the history does not tell."""
    worst_day: date | None
    """The day that needs them."""
    sizes: Sequence[SizeReplay]
    erlang_c: int | None
    """The users that the formula asks for on the worst day."""
    requests: int
    """Requests of tests that were replayed."""
    imputed: int
    """The requests among them that got no user. Their hold is the median of the pool."""
    rest_costs: int | None
    """How many of the needed users would not be needed if users did not rest."""
    days: int
    """Days with requests."""
    advice: str
    """One sentence, with the pool's name."""
    limits: Sequence[str]
    """Sentences that say what the replay does not know."""
