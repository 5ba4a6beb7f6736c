"""Taking a lease with patience: longer than one request may wait, and across answers that are lost."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from botfarm_client.connection import Connection, Json, ProblemError

# Seconds that one request may ask the farm to wait.
LONGEST_WAIT = 300
# Seconds after a lost answer in which the same key is tried again, whatever the wait: a user may have been taken.
GRACE = 10.0
PAUSE = 1.0

Failure = ProblemError | httpx.HTTPError


class LostAnswerError(Exception):
    """Whether a lease was taken is not known; the same key tells."""

    def __init__(self, cause: Failure) -> None:
        super().__init__()
        self.cause = cause


@dataclass(kw_only=True)
class Acquiring:
    farm: Connection
    idempotency_key: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def acquire(self, body: Json, *, wait: float) -> Json:
        """Raises LostAnswerError; ProblemError and httpx.HTTPError where nothing has been taken."""
        started = self.clock()
        deadline = until = started + wait
        reached = lost = False
        while True:
            asked_at = self.clock()
            try:
                return self._post(body, wait=deadline - asked_at)
            except (ProblemError, httpx.HTTPError) as error:
                failure = error
            if _took_nothing(failure):
                lost, until = False, deadline
            elif not _may_pass(failure) or (_is_unreachable(failure) and not reached):
                raise failure
            elif not _is_unreachable(failure) and not lost:
                lost, until = True, max(deadline, self.clock() + GRACE)
            reached = True
            if self.clock() >= until:
                raise LostAnswerError(failure) if lost else _with_whole_wait(failure, self.clock() - started)
            # The farm answered sooner than it was asked to: it is not to be asked without a pause.
            if self.clock() - asked_at < PAUSE:
                self.sleep(max(0, min(PAUSE, until - self.clock())))

    def _post(self, body: Json, *, wait: float) -> Json:
        seconds = min(LONGEST_WAIT, max(0, math.ceil(wait)))
        whole = {**body, "wait_seconds": seconds}
        return self.farm.post("/leases", whole, idempotency_key=self.idempotency_key, wait=seconds)


def _took_nothing(failure: Failure) -> bool:
    """For now: all users are taken, or as many requests wait at this replica as may."""
    return isinstance(failure, ProblemError) and failure.slug in {"pool-exhausted", "too-many-waiters"}


def _is_unreachable(failure: Failure) -> bool:
    return isinstance(failure, (httpx.ConnectError, httpx.ConnectTimeout))


def _may_pass(failure: Failure) -> bool:
    return not isinstance(failure, ProblemError) or failure.status in {502, 503, 504}


def _with_whole_wait(failure: Failure, seconds: float) -> Failure:
    """The farm knows only of the last request."""
    if isinstance(failure, ProblemError) and "waited" in failure.details:
        failure.details["waited"] = round(seconds, 3)
    return failure
