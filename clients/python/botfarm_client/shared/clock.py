"""A monotonic clock that goes on while this machine sleeps, as the farm's clock does."""

import sys
import time


def _clock_id() -> int | None:
    """The clock to read.

    `time.monotonic` stands still while Linux and macOS are suspended, so a lease would look too young.
    """
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_CLOCK_ID = _clock_id()


_ahead = 0.0


def now() -> float:
    """Seconds."""
    if _CLOCK_ID is None or not hasattr(time, "clock_gettime"):
        return _ahead + time.monotonic()
    return _ahead + float(time.clock_gettime(_CLOCK_ID))


def advance(seconds: float) -> None:
    """For tests: moves the clock, as if this machine had been asleep for `seconds`."""
    global _ahead  # noqa: PLW0603  there is one time
    _ahead += seconds
