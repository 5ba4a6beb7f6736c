"""Delays guesses of passwords.

Guesses by others may delay a person's sign-in and never lock it out (decision 0012).
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

from botfarm.errors import SlowDownError

# Seconds. Three failures are free; from then on each one doubles the delay, up to its limit.
FREE_FAILURES = 3
FIRST_DELAY, LONGEST_DELAY = 0.25, 5.0
HALF_LIFE = 300.0
LONGEST_QUEUE = 15.0
"""Seconds that an attempt may have to wait for attempts before it."""
PACE = 0.05
"""Seconds between two attempts from an address that has failed, at half the rate of password verification."""
MAX_TALLIES = 10_000
"""Tallies of names, of addresses and of pairs; the longest unused are forgotten first."""
_LONGEST_KEY = 320


@dataclass(slots=True)
class _Tally:
    failures: float = 0.0
    counted_at: float = 0.0
    free_at: float = 0.0
    """The moment of the last attempt that waits."""

    def count(self, now: float, change: float) -> None:
        self.failures, self.counted_at = max(0.0, self.failures_at(now) + change), now

    def failures_at(self, now: float) -> float:
        return float(self.failures * 0.5 ** ((now - self.counted_at) / HALF_LIFE))

    def delay(self, now: float) -> float:
        # Rounded, so that three failures are still three a second later.
        beyond_free = round(self.failures_at(now)) - FREE_FAILURES
        return 0.0 if beyond_free < 0 else min(FIRST_DELAY * 2 ** min(beyond_free, 10), LONGEST_DELAY)


class LoginThrottle:
    """Counts failures by name, by address and by both. It only computes delays; the caller waits."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names = _Tallies()
        self._addresses = _Tallies()
        self._pairs = _Tallies()

    def delay(self, name: str, address: str | None) -> float:
        """Seconds to wait before the password is verified.

        The attempt counts as a failure until it has `succeeded`.

        Attempts at one name from one address wait one after the other, each as long as its delay. Attempts at
        other names from the address wait only `PACE` seconds, so an attacker cannot block users behind the
        same address. Failures of others under a name cost a delay and never more. Raises SlowDownError when
        the wait would exceed `LONGEST_QUEUE`.
        """
        now = self._clock()
        by_name, by_address, by_both = self._tallies(name, address)
        by_address_turn = now + by_address.delay(now)
        if by_address_turn > now:
            by_address_turn = max(by_address_turn, by_address.free_at + PACE)
        turn = max(by_address_turn, max(now, by_both.free_at) + by_both.delay(now))
        if turn - now > LONGEST_QUEUE:
            raise SlowDownError(retry_after=math.ceil(turn - now - LONGEST_QUEUE))
        by_address.free_at, by_both.free_at = by_address_turn, turn
        wait = max(turn - now, by_name.delay(now))
        for tally in (by_name, by_address, by_both):
            tally.count(now, +1)
        return wait

    def succeeded(self, name: str, address: str | None) -> None:
        """Forgives the failures under this name. Failures under other names from the address still count."""
        now = self._clock()
        _, by_address, by_both = self._tallies(name, address)
        by_address.count(now, -by_both.failures_at(now))
        self._names.forget(_name_key(name))
        self._pairs.forget(_pair_key(name, address))

    def _tallies(self, name: str, address: str | None) -> tuple[_Tally, _Tally, _Tally]:
        return (
            self._names.of(_name_key(name)),
            self._addresses.of(address_key(address)),
            self._pairs.of(_pair_key(name, address)),
        )


class _Tallies:
    def __init__(self) -> None:
        self._by_key: OrderedDict[str, _Tally] = OrderedDict()

    def of(self, key: str) -> _Tally:
        tally = self._by_key.setdefault(key, _Tally())
        self._by_key.move_to_end(key)
        if len(self._by_key) > MAX_TALLIES:
            self._by_key.popitem(last=False)
        return tally

    def forget(self, key: str) -> None:
        self._by_key.pop(key, None)


def _name_key(name: str) -> str:
    return name.lower()[:_LONGEST_KEY]


def _pair_key(name: str, address: str | None) -> str:
    return f"{address_key(address)} {_name_key(name)}"


def address_key(address: str | None) -> str:
    """The /64 of an IPv6 address, because a home or an office has a whole /64."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return (address or "")[:_LONGEST_KEY]
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((int(parsed), 64), strict=False))
    return str(parsed)
