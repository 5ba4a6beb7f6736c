"""How long a lease is good for, by this machine's clock; when to renew it; and when to say that it is lost.

Nothing here sends anything. Ages are counted from the moment before a request was sent, so the farm's own end of the
lease is never earlier than ours.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.retrying import Backoff, Pause, Steps, may_pass, retry_steps
from botfarm_client.errors import (
    BotfarmError,
    FarmUnreachableError,
    LeaseLapsedError,
    LeaseLostError,
    NoSuchLeaseError,
    NotTheHolderError,
)
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.lease_documents import renewed_lease
from botfarm_client.shared import clock

# A holder is told of its loss so much before the farm's end of the lease: a tenth of the TTL, at most so many seconds.
MARGIN, LONGEST_MARGIN = 0.1, 10.0
# Seconds at most between two looks at a lease: the timers of a machine that sleeps stand still.
TICK = 1.0
# Seconds for which a release, and what else a holder asks, is tried again; and those that one answer may take.
PATIENCE, ANSWER_PATIENCE = 10.0, 5.0
# A renewal's share of the TTL: it is asked for after a third, and one try may take half of that.
SHARE, TRY = 1 / 3, 1 / 6
SHORTEST_TRY = 0.5

_ENDED_THERE = "the farm has ended it; its users may be somebody else's now"
_ENDED = (LeaseLapsedError, NoSuchLeaseError, NotTheHolderError)


@dataclass(frozen=True)
class Renewal:
    call: Call
    asked_at: float


class LeaseClock:
    """For several threads: the holder's, the renewer's, and those of single renewals."""

    def __init__(self, grant: Grant, *, now: Callable[[], float] = clock.now) -> None:
        self._now = now
        self._pid = os.getpid()
        self.begin_anew()
        self.lease_id = str(grant.answer["id"])
        self.loss: LeaseLostError | None = None
        """Looked at last; `look` looks now."""
        self.is_released = False
        self._is_given_up = False
        """Its release has begun: even where that was interrupted it is not renewed any more."""
        self._is_renewing = self._is_capped = False
        self._expires_at = self._lost_at = self._renew_at = self._renewed_at = grant.asked_at
        self._backoff = Backoff()
        self._failure: BotfarmError | None = None
        """Of the last try to renew it, since it was renewed."""
        self._ttl = float(grant.answer["expires_in"])
        self._take(grant.answer, grant.asked_at)

    def begin_anew(self) -> None:
        """In a forked process, too, where the lock may be held by a thread that is not here."""
        self._lock = threading.RLock()

    @property
    def is_inherited(self) -> bool:
        """It is the lease of the process that this one was forked from, which keeps and releases it."""
        return self._pid != os.getpid()

    @property
    def expires_in(self) -> float:
        return max(0.0, self._expires_at - self._now())

    def look(self) -> LeaseLostError | None:
        """The loss, if the lease is lost by now; of an inherited one only its own process knows."""
        if self.is_inherited:
            return None
        with self._lock:
            if self._now() >= self._lost_at:
                self._lose(self._why_over())
            return self.loss

    def check(self) -> None:
        """Raises LeaseLostError, of what its holder has released, too."""
        if loss := self.look():
            raise LeaseLostError(*loss.args)
        if self.is_released:
            raise LeaseLostError(f"lease {self.lease_id} is not held any more: it was released")

    def due(self) -> Renewal | None:
        """The renewal that is to be made now: under way until `renewed` or `not_renewed` is called."""
        with self._lock:
            now = self._now()
            is_wanted = not (self.loss or self.is_released or self._is_given_up)
            if not is_wanted or self._is_renewing or now < self._renew_at:
                return None
            self._is_renewing = True
            return Renewal(
                self._renewing(None, patience=max(SHORTEST_TRY, min(ANSWER_PATIENCE, TRY * self._ttl))), now
            )

    def rest(self) -> float:
        """Seconds until it is to be looked at again."""
        with self._lock:
            if self.loss or self.is_released:
                return TICK
            is_left = self._is_renewing or self._is_given_up
            due = self._lost_at if is_left else min(self._renew_at, self._lost_at)
            return min(TICK, max(0.0, due - self._now()))

    def renewed(self, answer: Json, asked_at: float) -> None:
        """Raises UnexpectedAnswerError."""
        with self._lock:
            self._take(answer, asked_at)

    def not_renewed(self, failure: Exception) -> None:
        """Whatever it was: another try is the only thing to do."""
        known = failure if isinstance(failure, BotfarmError) else BotfarmError(type(failure).__name__)
        with self._lock:
            self._is_renewing = False
            self._failure = known
            self._renew_at = self._now() + (known.retry_after or 0.0) + self._backoff.pause()
            if isinstance(failure, _ENDED):
                self._lose(_ENDED_THERE)

    def renewing(self, ttl: int | None) -> Steps[None]:
        """At the holder's wish. Raises LeaseLostError, and what stands in the way of a renewal."""
        until, backoff = self._now() + PATIENCE, Backoff()
        while True:
            self.check()
            asked_at = self._now()
            try:
                self.renewed((yield self._renewing(ttl, patience=ANSWER_PATIENCE)), asked_at)
            except _ENDED as error:
                self.not_renewed(error)
                self.check()
                raise
            except BotfarmError as error:
                pause = (error.retry_after or 0.0) + backoff.pause()
                if not may_pass(error) or self._now() + pause > until:
                    raise
            else:
                return
            yield Pause(pause)

    def asking(self, call: Call) -> Steps[Json]:
        """What only the holder may ask. Raises LeaseLostError, and what stands in the way."""
        self.check()
        try:
            return (yield from retry_steps(call, patience=PATIENCE, now=self._now))
        except _ENDED:
            with self._lock:
                self._lose(_ENDED_THERE)
            self.check()
            raise

    def releasing(self, outcome: str | None, note: str | None, *, until: float | None = None) -> Steps[None]:
        """Raises LeaseLostError when the farm had ended the lease, and what stands in the way of the release until then.

        From now on it is not renewed, and meanwhile not lost. What is lost already is not worth patience: it ends by itself.
        """
        loss = self.look()
        left = PATIENCE if until is None else until - self._now()
        if left < 0:
            raise FarmUnreachableError("there was no time left for it")
        given = {"outcome": outcome, "note": note}
        body = {name: value for name, value in given.items() if value is not None}
        path = f"/leases/{self.lease_id}/release"
        call = Call(method="POST", path=path, json=body, patience=ANSWER_PATIENCE)
        self.is_released = self._is_given_up = True
        try:
            yield from retry_steps(call, patience=0 if loss else left, now=self._now)
        except _ENDED:
            if self._now() < self._expires_at:  # else it has ended while the farm could not be told
                self.is_released = False
                self._lose(_ENDED_THERE)
                self.check()
        except BaseException:
            self.is_released = False
            raise

    def _take(self, answer: Json, asked_at: float) -> None:
        """Raises UnexpectedAnswerError, and has changed nothing then."""
        left = float(renewed_lease(answer)["expires_in"])
        self._is_renewing = False
        self._failure = None
        self._renewed_at = asked_at
        self._is_capped = answer["expires_at"] == answer["hold_until"]
        if not self._is_capped:  # there it gets less with each renewal, and wants the margin of before
            self._ttl = left
        self._expires_at = max(self._expires_at, asked_at + left)  # answers may come in another order
        self._lost_at = self._expires_at - min(LONGEST_MARGIN, MARGIN * self._ttl)
        self._renew_at = asked_at + SHARE * self._ttl
        self._backoff = Backoff(first=self._ttl / 30, longest=min(LONGEST_MARGIN, self._ttl / 10))

    def _renewing(self, ttl: int | None, *, patience: float) -> Call:
        body = {} if ttl is None else {"ttl_seconds": ttl}
        path = f"/leases/{self.lease_id}/renew"
        return Call(method="POST", path=path, json=body, patience=patience)

    def _lose(self, why: str) -> None:
        if self.loss is None and not self.is_released:
            self.loss = LeaseLostError(f"lease {self.lease_id} is lost: {why}")

    def _why_over(self) -> str:
        if self._is_capped:
            return "it was held as long as the project's max_hold allows"
        if self._is_given_up:
            return "its release was interrupted"
        since = f"it was not renewed for {self._now() - self._renewed_at:.0f} s"
        if self._failure is None:
            return f"{since}, as this machine or process stood still; its users may be somebody else's now"
        return f"{since} ({self._failure}); its users may be somebody else's soon"
