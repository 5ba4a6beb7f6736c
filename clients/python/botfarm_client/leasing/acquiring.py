"""The policy of an acquire: it waits longer than one request may, and survives lost answers."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn
from uuid import uuid4

from botfarm_client.connection.api_calls import ANSWER_TIMEOUT, Call, Json
from botfarm_client.connection.retrying import Backoff, Pause, Steps, may_pass
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
from botfarm_client.leasing.lease_documents import granted_lease
from botfarm_client.shared import clock

# Seconds that one request may ask the farm to wait: the API's maximum.
LONGEST_WAIT = 300
# Seconds after a lost answer in which the same key is retried, whatever the wait, because a user may have
# been taken.
GRACE = 10.0
# Seconds of the wait, at most, for a farm that has never answered.
UNREACHED = 10.0
# Seconds between the starts of two requests, at least, when the farm answers sooner than the wait it was
# asked for.
PAUSE = 1.0
# How much older than it is a lease may look, as a share of its remaining time.
FRESH = 0.1
# Seconds for the answer to each request after an interruption.
LAST_CALL = 3.0

_TOOK_NOTHING = (PoolExhaustedError, QuotaExceededError, TooManyWaitersError, WaitSupersededError)


@dataclass(frozen=True)
class Grant:
    answer: Json = field(repr=False)
    asked_at: float
    """By this machine's clock, in seconds. The lease began later than that."""
    pool: str
    """`project/env/domain`, with the project as the caller gave it; of a hold of one user, its id."""


class Acquiring:
    def __init__(
        self,
        wanted: Json,
        *,
        wait: float,
        keys: Iterable[str] | None = None,
        now: Callable[[], float] = clock.now,
    ) -> None:
        """`wanted`: the body of the request, without its wait. `wait`: seconds.

        `keys`: idempotency keys, used in this order.
        """
        self._wanted = wanted
        self._wait = wait
        self._now = now
        self._keys = iter(_new_keys() if keys is None else keys)
        self._key = next(self._keys)
        self._may_hold = False

    def steps(self) -> Steps[Grant]:
        """The steps of the acquire.

        Raises LostAnswerError if users may have been taken, and another BotfarmError if none were.
        """
        patience = _Patience(self._now(), self._wait)
        backoff, known = Backoff(), ""
        while True:
            asked_at = self._now()
            self._may_hold = True
            try:
                answer = granted_lease((yield self._call(wait=patience.deadline - asked_at)))
            except IdempotencyKeyEndedError as error:
                self._begin_anew(error, is_late=self._now() >= patience.until)
                patience.took_nothing()
                continue
            except BotfarmError as error:
                failure = error
            else:
                if self._key == known or self._now() - asked_at <= FRESH * float(answer["expires_in"]):
                    return Grant(answer, asked_at, _pool({**self._wanted, "domain": answer["domain"]}))
                # The farm kept the request open, so the start of the lease is unknown. A
                # replay under the same key tells its age.
                known = self._key
                patience.may_have_taken(self._now())
                continue
            now, least, pause = self._now(), failure.retry_after or 0.0, backoff.pause()
            patience.meet(failure, now)
            self._may_hold = patience.is_lost
            if isinstance(failure, PoolExhaustedError | WaitSupersededError):
                # The request has waited already, and its place in the queue is kept for a while.
                least, pause, backoff = 0.0, max(0.0, PAUSE - (now - asked_at)), Backoff()
            if not _can_be_waited_out(failure) or now + least >= patience.last:
                self._give_up(failure, lost=patience.is_lost, waited=now - patience.started)
            if least + pause > 0:
                yield Pause(min(least + pause, patience.last - now))

    def taking_back(self) -> Steps[None]:
        """The steps after an interruption: they release the lease that the request may have got."""
        if self._may_hold:
            lease = yield self._call(wait=0, patience=LAST_CALL)
            said: Json = {"note": "whoever asked for it was interrupted before it had it"}
            if self._wanted.get("purpose") == "chore":  # `ok` would say that it is done
                said["outcome"] = "dirty"
            yield Call(method="POST", path=f"/leases/{lease['id']}/release", json=said, patience=LAST_CALL)

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
        """Takes the next key, because the lease of this key has ended.

        Raises the failure if it is too late or no key is left.
        """
        key = None if is_late else next(self._keys, None)
        if key is None:
            raise failure
        self._key = key

    def _give_up(self, failure: BotfarmError, *, lost: bool, waited: float) -> NoReturn:
        if isinstance(
            failure, PoolExhaustedError | QuotaExceededError
        ):  # the farm knows only the last request
            failure.pool, failure.waited = _pool(self._wanted), waited
            if isinstance(failure, PoolExhaustedError):
                failure.user = self._wanted.get("user", "")
            if "waited" in failure.details:
                failure.details["waited"] = round(waited, 3)
        if lost and may_pass(failure):
            raise LostAnswerError(
                f"{failure}; users may have been taken, and come back by themselves"
            ) from failure
        raise failure


class _Patience:
    """Until when the acquire is retried."""

    def __init__(self, now: float, wait: float) -> None:
        self.started = now
        self.deadline = self.until = now + wait
        self.is_lost = False
        """A lease may have been granted whose answer was lost or came too late."""
        self._is_reached = False

    @property
    def last(self) -> float:
        return self.until if self._is_reached else min(self.until, self.started + UNREACHED)

    def meet(self, failure: BotfarmError, now: float) -> None:
        self._is_reached = self._is_reached or not _is_unreachable(failure)
        if isinstance(failure, _TOOK_NOTHING):
            self.took_nothing()
        elif _may_have_taken(failure):
            self.may_have_taken(now)

    def took_nothing(self) -> None:
        self.is_lost, self.until = False, self.deadline

    def may_have_taken(self, now: float) -> None:
        self._is_reached = True
        if not self.is_lost:
            self.is_lost, self.until = True, max(self.deadline, now + GRACE)


def _pool(wanted: Json) -> str:
    """`project/env/domain`, as far as the caller gave them; for one user its login instead of the domain, or its id."""
    if user_id := wanted.get("user_id"):
        return str(user_id)
    kind = wanted.get("user") or wanted.get("domain")
    return "/".join(filter(None, (wanted.get("project") or wanted["project_id"], wanted["env"], kind)))


def _new_keys() -> Iterator[str]:
    while True:
        yield str(uuid4())


def _is_unreachable(failure: BotfarmError) -> bool:
    return isinstance(failure, FarmUnreachableError) and not isinstance(failure, LostAnswerError)


def _may_have_taken(failure: BotfarmError) -> bool:
    """Also after a 502, 503 or 504: a proxy that answers for the farm does not know what the farm did."""
    return isinstance(failure, LostAnswerError) or (
        isinstance(failure, ProblemError) and failure.status in {502, 503, 504}
    )


def _can_be_waited_out(failure: BotfarmError) -> bool:
    if isinstance(failure, QuotaExceededError):
        return not failure.is_for_ever
    return isinstance(failure, _TOOK_NOTHING) or may_pass(failure)
