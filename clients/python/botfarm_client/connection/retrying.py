"""When to retry.

A policy is a generator: it yields the next request or pause, is sent the answer, and is thrown the failure.

So each policy is written once, and carried out by a thread (`carry_out` here) or by a task
(`async_retrying.py`).
"""

import random
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.errors import BotfarmError, FarmUnreachableError, ProblemError
from botfarm_client.shared import clock

Result = TypeVar("Result")
# Seconds.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 5.0
MAY_PASS = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Pause:
    seconds: float


class _Connection(Protocol):
    def send(self, call: Call) -> Json: ...


Steps = Generator[Call | Pause, Json, Result]


class Backoff:
    """Exponential backoff with full jitter, because clients that failed together must not return together."""

    def __init__(self, first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> None:
        self._next = first
        self._longest = longest

    def pause(self) -> float:
        """Seconds until the next attempt, on top of those that the farm asks for."""
        limit = min(self._next, self._longest)
        self._next *= 2
        return random.uniform(0, limit)  # noqa: S311  jitter, not a secret


def may_pass(failure: BotfarmError) -> bool:
    """Whether a retry may succeed."""
    if isinstance(failure, ProblemError):
        return failure.status in MAY_PASS
    return isinstance(failure, FarmUnreachableError)


def retry_steps(call: Call, *, patience: float, now: Callable[[], float] = clock.now) -> Steps[Json]:
    """The steps of an idempotent call, with retries for `patience` seconds. Raises the last failure."""
    until, backoff = now() + patience, Backoff()
    while True:
        try:
            return (yield call)
        except BotfarmError as error:
            pause = (error.retry_after or 0.0) + backoff.pause()
            if not may_pass(error) or now() + pause > until:
                raise
        yield Pause(pause)


def carry_out(
    steps: Steps[Result], connection: _Connection, *, sleep: Callable[[float], None] = time.sleep
) -> Result:
    with closing(steps):  # closes the generator after an interruption, too
        try:
            step = next(steps)
            while True:
                try:
                    answer = _do(step, connection, sleep)
                except BotfarmError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result


def _do(step: Call | Pause, connection: _Connection, sleep: Callable[[float], None]) -> Json:
    if isinstance(step, Call):
        return connection.send(step)
    sleep(step.seconds)
    return {}
