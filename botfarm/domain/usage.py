"""How the pools, the users and their holders were used. Durations are seconds, times are of the database's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate, pairwise
from uuid import UUID

from botfarm.domain.leases import Reason
from botfarm.domain.pools import Pool

HOUR = timedelta(hours=1)
KEPT_DAYS = 400
"""Rollups are kept for so long: a year, and the month to compare it with."""

WAIT_BOUNDS = (
    *(0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0),
    *(60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 450.0, 600.0, 900.0, 1_200.0, 1_800.0, 3_600.0),
)
"""Where the buckets of waits end. Stored counts have no bounds of their own, so these never change."""

REFUSALS = ("exhausted", "timeout", "gone", "quota")
"""Results of requests that got nobody."""
OUTCOMES = ("ok", "dirty", "broken", "unused", "expired", "forced")
"""How a user's lease ended: what its release said (`unused` when nobody had used it), else what ended it."""


class Step(StrEnum):
    """Of a window; both begin by UTC."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        return HOUR if self is Step.HOUR else timedelta(days=1)

    def floor(self, moment: datetime) -> datetime:
        """The beginning of the step with this moment, which is in UTC."""
        hour = moment.replace(minute=0, second=0, microsecond=0)
        return hour if self is Step.HOUR else hour.replace(hour=0)


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits of requests that were granted, from the first request to the grant."""

    counts: Sequence[int] = (0,) * (len(WAIT_BOUNDS) + 1)
    """By bucket; the last one has no end."""
    longest: float = 0

    def quantile(self, share: float) -> float | None:
        """The wait that this share of the requests did not exceed, evenly spread within a bucket. None without any."""
        total = sum(self.counts)
        if total == 0:
            return None
        wanted, bounds = share * total, pairwise((0.0, *WAIT_BOUNDS, max(self.longest, WAIT_BOUNDS[-1])))
        for count, upto, (low, high) in zip(self.counts, accumulate(self.counts), bounds, strict=True):
            if count and upto >= wanted:
                return min(self.longest, high, low + (high - low) * (wanted - upto + count) / count)
        return self.longest

    @property
    def p50(self) -> float | None:
        return self.quantile(0.5)

    @property
    def p95(self) -> float | None:
        return self.quantile(0.95)

    @property
    def p99(self) -> float | None:
        return self.quantile(0.99)

    @property
    def max(self) -> float | None:
        return self.longest if any(self.counts) else None


@dataclass(frozen=True, slots=True)
class UsageFigures:
    """Of the tests of one pool, over a stretch of time."""

    granted: int = 0
    refusals: Mapping[str, int] = field(default_factory=dict)
    """Requests that got nobody, by result."""
    wait: Waits = field(default_factory=Waits)
    busy_seconds: float = 0
    """Of all users together."""
    in_service_seconds: float = 0
    """The same, of users in service, as far as a worker was there to count them."""
    observed_busy_seconds: float = 0
    """The part of `busy_seconds` that falls to the time in which users in service were counted."""
    peak_demand: int = 0
    """The most users that were held and waited for at once."""
    ends: Mapping[str, int] = field(default_factory=dict)
    """Users by the end of their lease: `ok`, `broken:captcha`, `expired`."""

    @property
    def refused(self) -> int:
        return sum(self.refusals.values())

    @property
    def requests(self) -> int:
        return self.granted + self.refused

    @property
    def utilisation(self) -> float | None:
        """Null when nobody counted the users in service, or there were none."""
        return self.observed_busy_seconds / self.in_service_seconds if self.in_service_seconds else None

    @property
    def outcomes(self) -> dict[str, int]:
        counts = dict.fromkeys(OUTCOMES, 0)
        for end, users in self.ends.items():
            counts[end.partition(":")[0]] += users
        return counts

    @property
    def reasons(self) -> dict[str, int]:
        """Of users that were released as dirty or broken."""
        counts: dict[str, int] = {}
        for end, users in sorted(self.ends.items()):
            if reason := end.partition(":")[2]:
                counts[reason] = counts.get(reason, 0) + users
        return counts


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageStep(UsageFigures):
    at: datetime
    """Its beginning."""


@dataclass(frozen=True, slots=True)
class PoolHistory:
    """How a pool was used in a window: as a whole, and step by step."""

    pool: Pool
    project_name: str
    total: UsageFigures
    steps: Sequence[UsageStep]


@dataclass(frozen=True, slots=True)
class Window:
    """From the beginning of one step to the end of another."""

    since: datetime
    until: datetime
    step: Step

    def moments(self) -> list[datetime]:
        """The beginning of each step."""
        count = (self.until - self.since) // self.step.length
        return [self.since + number * self.step.length for number in range(count)]


@dataclass(frozen=True, slots=True)
class PoolStatsFilter:
    """Null means any."""

    project_id: UUID | None = None
    env: str | None = None
    domain: str | None = None


class UserOrder(StrEnum):
    FAILURES = "failures"
    USES = "uses"
    BUSY = "busy"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class UserUse:
    """How a user was used by tests since some moment."""

    id: UUID
    login: str
    pool: Pool
    uses: int
    failures: int
    last_reason: Reason | None
    """Of the last failure."""
    busy_seconds: float
    last_used: datetime | None
    """Also before that moment; null for a user that was never used."""
    quarantined_seconds: float


class HolderKind(StrEnum):
    PRINCIPAL = "principal"
    OWNER = "owner"
    JOB = "job"
    """The pipeline and the job of the CI, whatever the run."""


@dataclass(frozen=True, slots=True)
class HolderUse:
    holder: str | None
    """Null for leases that name none of the kind."""
    account_seconds: float
    leases: int
    expired_leases: int

    @property
    def account_hours(self) -> float:
        return self.account_seconds / HOUR.total_seconds()
