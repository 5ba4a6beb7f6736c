"""Counts failures by address, so that one that fails often is held back."""

import time
from collections import OrderedDict
from collections.abc import Callable

from botfarm.services.access.login_throttle import address_key

FAILURES, WINDOW = 20, 60.0
"""Failures of an address within seconds that are answered with the refusal and written to the audit."""
MAX_ADDRESSES = 10_000
"""The longest unused are forgotten first."""


class FailureLimit:
    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def pause(self, address: str | None) -> float | None:
        """The seconds until the next window when this address has used up its failures, else None."""
        began, failures = self._windows.get(address_key(address), (0.0, 0))
        left = began + WINDOW - self._clock()
        return left if failures >= FAILURES and left > 0 else None

    def count(self, address: str | None) -> float | None:
        """Counts a failure. The seconds until the next window when it is beyond the limit, else None."""
        now, key = self._clock(), address_key(address)
        began, failures = self._windows.get(key, (now, 0))
        if now - began >= WINDOW:
            began, failures = now, 0
        self._windows[key] = began, failures + 1
        self._windows.move_to_end(key)
        if len(self._windows) > MAX_ADDRESSES:
            self._windows.popitem(last=False)
        return began + WINDOW - now if failures >= FAILURES else None
