"""Until when a lease is valid by this machine's clock, when to renew it, and when to report it as lost.

Nothing here sends a request: `renewer.py` sends the renewals that are due, `holder_requests.py` those of the
holder. Ages are counted from the moment before a request was sent, so the farm never ends the lease earlier
than this clock says.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.retrying import Backoff
from botfarm_client.errors import (
    BotfarmError,
    LeaseLapsedError,
    LeaseLostError,
    NoSuchLeaseError,
    NotTheHolderError,
)
from botfarm_client.leasing.acquiring import Grant
from botfarm_client.leasing.lease_documents import renewed_lease
from botfarm_client.leasing.verdicts import Verdicts
from botfarm_client.shared import clock

# The holder is told of a loss before the farm ends the lease: by this share of the TTL, at most by this
# many seconds.
MARGIN, LONGEST_MARGIN = 0.1, 10.0
# Seconds between two checks of a lease, at most. Timers stand still while a machine sleeps, so one long
# timer would be late.
TICK = 1.0
# Seconds that one attempt waits for its answer.
ANSWER_PATIENCE = 5.0
# Shares of the TTL: a renewal is due after a third, and one attempt may take half of that.
SHARE, TRY = 1 / 3, 1 / 6
SHORTEST_TRY = 0.5

_ENDED_THERE = "the farm has ended it; its users may be somebody else's now"
ENDED = (LeaseLapsedError, NoSuchLeaseError, NotTheHolderError)
"""Answers of a farm that has ended the lease."""


@dataclass(frozen=True)
class Renewal:
    call: Call
    asked_at: float


class LeaseClock:
    """The state of one lease.

    Thread-safe: the holder, the renewer and each renewal use it from threads of their own.
    """

    def __init__(self, grant: Grant, *, now: Callable[[], float] = clock.now) -> None:
        self.now = now
        self._pid = os.getpid()
        self.begin_anew()
        self.lease_id = str(grant.answer["id"])
        self.verdicts = Verdicts(grant.answer)
        """Here, because the end of a farm object knows its leases by their clocks."""
        self.loss: LeaseLostError | None = None
        """As of the last check. `look` checks now."""
        self.is_released = False
        self._is_given_up = False
        """A release has begun. The lease is not renewed any more, even if the release was interrupted."""
        self._is_renewing = self._is_capped = False
        self._expires_at = self._lost_at = self._renew_at = self._renewed_at = grant.asked_at
        self._backoff = Backoff()
        self._failure: BotfarmError | None = None
        """Of the last attempt to renew, if it failed."""
        self._ttl = float(grant.answer["expires_in"])
        self._take(grant.answer, grant.asked_at)

    def begin_anew(self) -> None:
        """Makes a new lock, also in a forked process, where a thread of the parent may hold the old one."""
        self._lock = threading.RLock()

    @property
    def is_inherited(self) -> bool:
        """The lease belongs to the parent of this forked process. The parent renews and releases it."""
        return self._pid != os.getpid()

    @property
    def expires_in(self) -> float:
        return max(0.0, self._expires_at - self.now())

    def look(self) -> LeaseLostError | None:
        """The loss, if the lease is lost by now. Of an inherited lease only the parent knows it."""
        if self.is_inherited:
            return None
        with self._lock:
            if self.now() >= self._lost_at:
                self._lose(self._why_over())
            return self.loss

    def check(self) -> None:
        """Raises LeaseLostError if the lease is lost or was released."""
        if loss := self.look():
            raise LeaseLostError(*loss.args)
        if self.is_released:
            raise LeaseLostError(f"lease {self.lease_id} is not held any more: it was released")

    def due(self) -> Renewal | None:
        """The renewal to send now, if one is due. It ends when `renewed` or `not_renewed` is called."""
        with self._lock:
            now = self.now()
            is_wanted = not (self.loss or self.is_released or self._is_given_up)
            if not is_wanted or self._is_renewing or now < self._renew_at:
                return None
            self._is_renewing = True
            return Renewal(
                self.renewal_call(None, patience=max(SHORTEST_TRY, min(ANSWER_PATIENCE, TRY * self._ttl))),
                now,
            )

    def rest(self) -> float:
        """Seconds until the next check."""
        with self._lock:
            if self.loss or self.is_released:
                return TICK
            is_left = self._is_renewing or self._is_given_up
            due = self._lost_at if is_left else min(self._renew_at, self._lost_at)
            return min(TICK, max(0.0, due - self.now()))

    def renewed(self, answer: Json, asked_at: float) -> None:
        """Raises UnexpectedAnswerError."""
        with self._lock:
            self._take(answer, asked_at)

    def not_renewed(self, failure: Exception) -> None:
        """Schedules the next attempt, whatever the failure was."""
        known = failure if isinstance(failure, BotfarmError) else BotfarmError(type(failure).__name__)
        with self._lock:
            self._is_renewing = False
            self._failure = known
            self._renew_at = self.now() + (known.retry_after or 0.0) + self._backoff.pause()
            if isinstance(failure, ENDED):
                self._lose(_ENDED_THERE)

    def ended(self) -> None:
        """The farm has answered that it has ended the lease, so it is lost."""
        with self._lock:
            self._lose(_ENDED_THERE)

    def give_up(self) -> None:
        """A release begins: the lease is not renewed any more, and not reported as lost meanwhile."""
        self.is_released = self._is_given_up = True

    def renewal_call(self, ttl: int | None, *, patience: float) -> Call:
        body = {} if ttl is None else {"ttl_seconds": ttl}
        path = f"/leases/{self.lease_id}/renew"
        return Call(method="POST", path=path, json=body, patience=patience)

    def _take(self, answer: Json, asked_at: float) -> None:
        """Takes over the answer to an acquire or a renewal.

        Raises UnexpectedAnswerError before anything is changed.
        """
        left = float(renewed_lease(answer)["expires_in"])
        self._is_renewing = False
        self._failure = None
        self._renewed_at = asked_at
        self._is_capped = answer["expires_at"] == answer["hold_until"]
        if not self._is_capped:  # at `max_hold` each renewal grants less, and the margin must stay
            self._ttl = left
        self._expires_at = max(self._expires_at, asked_at + left)  # answers may arrive in another order
        self._lost_at = self._expires_at - min(LONGEST_MARGIN, MARGIN * self._ttl)
        self._renew_at = asked_at + SHARE * self._ttl
        self._backoff = Backoff(first=self._ttl / 30, longest=min(LONGEST_MARGIN, self._ttl / 10))

    def _lose(self, why: str) -> None:
        if self.loss is None and not self.is_released:
            self.loss = LeaseLostError(f"lease {self.lease_id} is lost: {why}")

    def _why_over(self) -> str:
        if self._is_capped:
            return "it was held as long as the project's max_hold allows"
        if self._is_given_up:
            return "its release was interrupted"
        since = f"it was not renewed for {self.now() - self._renewed_at:.0f} s"
        if self._failure is None:
            return f"{since}, as this machine or process stood still; its users may be somebody else's now"
        return f"{since} ({self._failure}); its users may be somebody else's soon"
