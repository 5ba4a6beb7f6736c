"""A monotonic clock that goes on while the machine sleeps, as the farm's does."""

import sys
import time


def _clock_id() -> int | None:
    """`time.monotonic` stands still while Linux and macOS are suspended: a lease would look younger than it is."""
    if sys.platform == "darwin":
        return time.CLOCK_MONOTONIC
    return getattr(time, "CLOCK_BOOTTIME", None)


_CLOCK_ID = _clock_id()


def now() -> float:
    """Seconds."""
    return time.monotonic() if _CLOCK_ID is None else time.clock_gettime(_CLOCK_ID)
