"""A request that waits here, and what can become of it."""

import asyncio
import time
from typing import Generic, Protocol, TypeVar

from botfarm.db.waiting.ticket_queries import Parked
from botfarm.domain.waiting import WaitingRequest


class Granted(Protocol):
    """What a request waits for."""

    @property
    def replayed(self) -> bool:
        """It had been granted before, under the same key: then the ticket is still there."""


GrantedT = TypeVar("GrantedT", bound=Granted)


class Waiter(Generic[GrantedT]):
    def __init__(self, request: WaitingRequest, ticket: Parked) -> None:
        loop = asyncio.get_running_loop()
        self.request = request
        self.ticket = ticket
        self.since = time.monotonic() - ticket.waited
        """The moment of the first request under its key."""
        self.outcome: asyncio.Future[GrantedT] = loop.create_future()
        self.time_is_over: asyncio.Future[None] = loop.create_future()
        self.granting: asyncio.Task[None] | None = None
        self.is_leaving = False
        self.has_ticket = True
        """As far as this process knows."""

    @property
    def may_be_granted(self) -> bool:
        return self.granting is None and not self.is_over()

    def is_over(self) -> bool:
        return self.is_leaving or self.outcome.done()

    def end(self) -> None:
        if not self.time_is_over.done():
            self.time_is_over.set_result(None)

    def succeed(self, granted: GrantedT) -> None:
        if not self.outcome.done():
            self.has_ticket = granted.replayed
            self.outcome.set_result(granted)

    def fail(self, error: Exception, *, has_ticket: bool) -> None:
        if not self.outcome.done():
            self.has_ticket = has_ticket
            self.outcome.set_exception(error)
            self.outcome.exception()  # read: its caller may have been cancelled
