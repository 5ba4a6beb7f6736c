"""The database's clock as this process expects it to go: it may be slewed, and must not be stepped.

Leases end by the database's clock alone. So a step forward would end those that their holders still use, and an acquire
would hand out their users. A process that has read the clock knows how late it can be by now at the most, from a
monotonic clock of its own. No user is handed out, and no lease is reaped, for a moment later than that.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

# Seconds that a reading may be off: slewing is 0.5 ms in a second at the most, hosts that fail over differ by more.
TOLERANCE = 2.0

# Goes on while the machine sleeps, as the database's clock does.
_CLOCK_ID: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def monotonic() -> float:
    """Seconds."""
    return time.clock_gettime(_CLOCK_ID)


@dataclass(frozen=True, slots=True)
class Reading:
    at: datetime
    """What the database said."""
    asked: float
    answered: float
    """When it was asked and when it had answered, on the monotonic clock."""


class DatabaseClock:
    def __init__(self) -> None:
        self._last: Reading | None = None

    def latest(self) -> datetime | None:
        """The latest moment that the database's clock can show now, unless it was stepped. None before the first reading."""
        if self._last is None:
            return None
        return self._last.at + timedelta(seconds=monotonic() - self._last.asked + TOLERANCE)

    def step_to(self, reading: Reading) -> float:
        """Seconds that the clock was stepped by since the last reading, negative for backward, else 0.

        Rounded up, by the milliseconds that the readings took.
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
