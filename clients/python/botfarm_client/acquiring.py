"""Taking a lease with patience: longer than one request may wait, and across answers that are lost."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn
from uuid import uuid4

from botfarm_client import clock
from botfarm_client.calls import ANSWER_TIMEOUT, Call, Json
from botfarm_client.errors import (
    BotfarmError,
    FarmUnreachableError,
    IdempotencyKeyEndedError,
    LostAnswerError,
    PoolExhaustedError,
    ProblemError,
    QuotaExceededError,
    TooManyWaitersError,
    WaitSupersededError,
)
from botfarm_client.retrying import Backoff, Pause, Steps, may_pass

# Seconds that one request may ask the farm to wait.
LONGEST_WAIT = 300
# Seconds after a lost answer in which the same key is tried again, whatever the wait: a user may have been taken.
GRACE = 10.0
# Seconds of the wait that are spent on a farm that was never there.
UNREACHED = 10.0
# Seconds from a request to the next one where the first was answered sooner than it asked for.
PAUSE = 1.0
# Seconds for the answer of what is asked once more after an interruption.
LAST_CALL = 3.0

_TOOK_NOTHING = (PoolExhaustedError, QuotaExceededError, TooManyWaitersError, WaitSupersededError)


@dataclass(frozen=True)
class Grant:
    answer: Json
    asked_at: float
    """By the clock of this machine: the lease cannot be older than that."""


class Acquiring:
    def __init__(
        self,
        wanted: Json,
        *,
        wait: float,
        keys: Iterable[str] | None = None,
        now: Callable[[], float] = clock.now,
    ) -> None:
        """`wanted` is the body of the request without its wait; the keys are those to be used, one after the other."""
        self._wanted = wanted
        self._wait = wait
        self._now = now
        self._keys = iter(_new_keys() if keys is None else keys)
        self._key = next(self._keys)
        self._may_hold = False
        self.pool = "/".join((wanted.get("project") or wanted["project_id"], wanted["env"], wanted["domain"]))

    def steps(self) -> Steps[Grant]:
        """Raises LostAnswerError where users may have been taken, any other BotfarmError where none were."""
        started = self._now()
        deadline = until = started + self._wait
        reached = lost = False
        backoff = Backoff()
        while True:
            asked_at = self._now()
            self._may_hold = True
            try:
                answer = yield self._call(wait=deadline - asked_at)
            except BotfarmError as error:
                failure = error
            else:
                return Grant(answer, asked_at)
            if isinstance(failure, IdempotencyKeyEndedError):
                self._begin_anew(failure, is_late=self._now() >= until)
                lost, until = False, deadline
                continue
            if isinstance(failure, _TOOK_NOTHING):
                lost, until = False, deadline
            elif _may_have_taken(failure) and not lost:
                lost, until = True, max(deadline, self._now() + GRACE)
            reached = reached or not _is_unreachable(failure)
            self._may_hold = lost
            now, least, pause = self._now(), failure.retry_after or 0.0, backoff.pause()
            if isinstance(failure, PoolExhaustedError | WaitSupersededError):
                # It has waited already, in a line where it keeps its place for a while.
                least, pause, backoff = 0.0, max(0.0, PAUSE - (now - asked_at)), Backoff()
            last = until if reached else min(until, started + UNREACHED)
            if not _can_be_waited_out(failure) or now + least >= last:
                self._give_up(failure, lost=lost, waited=now - started)
            if least + pause > 0:
                yield Pause(min(least + pause, last - now))

    def taking_back(self) -> Steps[None]:
        """After an interruption: releases what the request may have got all the same."""
        if self._may_hold:
            lease = yield self._call(wait=0, patience=LAST_CALL)
            note = {"note": "whoever asked for it was interrupted before it had it"}
            yield Call(method="POST", path=f"/leases/{lease['id']}/release", json=note, patience=LAST_CALL)

    def _call(self, *, wait: float, patience: float = ANSWER_TIMEOUT) -> Call:
        seconds = min(LONGEST_WAIT, max(0, math.ceil(wait)))
        body = {**self._wanted, "wait_seconds": seconds}
        return Call(
            method="POST",
            path="/leases",
            json=body,
            idempotency_key=self._key,
            wait=seconds,
            patience=patience,
        )

    def _begin_anew(self, failure: IdempotencyKeyEndedError, *, is_late: bool) -> None:
        """What the key got was given up for lost, by the farm or by somebody else: new work wants a new key."""
        key = None if is_late else next(self._keys, None)
        if key is None:
            raise failure
        self._key = key

    def _give_up(self, failure: BotfarmError, *, lost: bool, waited: float) -> NoReturn:
        if isinstance(
            failure, PoolExhaustedError | QuotaExceededError
        ):  # the farm knows only of the last request
            failure.pool, failure.waited = self.pool, waited
            if "waited" in failure.details:
                failure.details["waited"] = round(waited, 3)
        if lost and may_pass(failure):
            raise LostAnswerError(
                f"{failure}; users may have been taken, and come back by themselves"
            ) from failure
        raise failure


def _new_keys() -> Iterator[str]:
    while True:
        yield str(uuid4())


def _is_unreachable(failure: BotfarmError) -> bool:
    return isinstance(failure, FarmUnreachableError) and not isinstance(failure, LostAnswerError)


def _may_have_taken(failure: BotfarmError) -> bool:
    """A proxy that answers in the farm's place does not know what the farm did."""
    return isinstance(failure, LostAnswerError) or (
        isinstance(failure, ProblemError) and failure.status in {502, 503, 504}
    )


def _can_be_waited_out(failure: BotfarmError) -> bool:
    if isinstance(failure, QuotaExceededError):
        return not failure.is_for_ever
    return isinstance(failure, _TOOK_NOTHING) or may_pass(failure)
