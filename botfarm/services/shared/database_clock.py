"""The latest time that the database's clock can show, unless it was stepped.

Leases end by the database's clock alone. A step forward would end leases that their holders still use, and an
acquire would grant their users. A process that has read the clock knows from its own monotonic clock how late
it can be by now. No user is granted and no lease is reaped for a later time than that.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

# Seconds that a reading may be off. Slewing is 0.5 ms per second at most; the clocks of hosts that fail over
# differ by more.
TOLERANCE = 2.0

# Counts the time that the machine sleeps, as the database's clock does.
_CLOCK_ID: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds."""
    return time.clock_gettime(_CLOCK_ID)


@dataclass(frozen=True, slots=True)
class Reading:
    at: datetime
    """The time that the database's clock showed."""
    asked: float
    answered: float
    """Before the query and after its answer, on the monotonic clock."""


class DatabaseClock:
    def __init__(self) -> None:
        self._last: Reading | None = None

    def latest(self) -> datetime | None:
        """The latest time that the clock can show now, unless it was stepped.

        None before the first reading.
        """
        if self._last is None:
            return None
        return self._last.at + timedelta(seconds=monotonic() - self._last.asked + TOLERANCE)

    def step_to(self, reading: Reading) -> float:
        """The seconds by which the clock was stepped since the last reading, negative for backward, else 0.

        A step forward is rounded up by the milliseconds that the readings took.
        """
        last = self._last
        if last is None:
            return 0.0
        shown = (reading.at - last.at).total_seconds()
        least = shown - (reading.answered - last.asked)
        most = shown - (reading.asked - last.answered)
        return most if least > TOLERANCE or most < -TOLERANCE else 0.0

    def accept(self, reading: Reading) -> None:
        self._last = reading
