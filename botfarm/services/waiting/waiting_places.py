"""The places to wait in this process, shared among the principals."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from botfarm.errors import TooManyWaitersError


class WaitingPlaces:
    """A principal may hold at most as many places as are left.

    One principal alone gets half of the places, the next one half of the rest. So no principal can take all
    places, and the number of principals need not be known.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._by_principal: Counter[str] = Counter()

    @property
    def are_taken(self) -> bool:
        return self._taken > 0

    @contextmanager
    def taken_by(self, principal: str) -> Iterator[None]:
        """Raises TooManyWaitersError."""
        if self._by_principal[principal] >= self._limit - self._taken:
            raise TooManyWaitersError
        self._taken += 1
        self._by_principal[principal] += 1
        try:
            yield
        finally:
            self._taken -= 1
            self._by_principal[principal] -= 1
            if not self._by_principal[principal]:
                del self._by_principal[principal]
