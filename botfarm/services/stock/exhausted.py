"""Builds the `pool-exhausted` error: the pool's counts and the request's place in the queue."""

from botfarm.domain.pools import PoolCounts
from botfarm.errors import PoolExhaustedError


def exhausted(counts: PoolCounts, *, waited: float, place: int | None = None) -> PoolExhaustedError:
    """`waited` in seconds. `place` only for a request that had a ticket."""
    detail = (
        None if counts.next_free_in is not None else "The users that match are quarantined: time frees none."
    )
    if counts.free > 0:
        detail = "The users that are free are for those who wait: set `wait_seconds` to stand in their line."
    return PoolExhaustedError(
        detail,
        waited=round(waited, 3),
        total=counts.total,
        leased=counts.leased,
        resting=counts.resting,
        quarantined=counts.quarantined,
        waiting=counts.waiting,
        next_free_in=None if counts.next_free_in is None else round(counts.next_free_in, 3),
        **({} if place is None else {"place": place}),
    )
