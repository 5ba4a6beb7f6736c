"""The requests that wait in this process, each with its ticket."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from botfarm.db.waiting.ticket_queries import HeldTicket
from botfarm.domain.leases import Grant, LeaseRequest, Purpose
from botfarm.domain.pools import Pool
from botfarm.errors import WaitSupersededError


class Waiter:
    """A request that waits here: the outcome of its wait, and the state of its ticket."""

    # Both are set when the ticket has been inserted.
    ticket: HeldTicket
    waiting_since: float
    """The time of the first request under its key, by the monotonic clock."""

    def __init__(self, request: LeaseRequest, *, started: float, deadline: float) -> None:
        """Times are of the monotonic clock."""
        self.request = request
        self.started = started
        self.deadline = deadline
        self.outcome: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self.granting: asyncio.Task[None] | None = None
        self.is_leaving = False
        """True when the wait is over: then no grant is started."""
        self.was_admitted = False
        """True when it has got a ticket."""
        self.has_ticket = False
        """Whether the ticket is still in the database, as far as this process knows."""

    @property
    def is_over(self) -> bool:
        return self.is_leaving or self.outcome.done()

    @property
    def may_be_granted(self) -> bool:
        return self.granting is None and not self.is_over

    def admit(self, ticket: HeldTicket) -> None:
        self.ticket = ticket
        self.waiting_since = time.monotonic() - ticket.waited
        self.was_admitted = self.has_ticket = True

    def succeed(self, grant: Grant) -> None:
        """After a replay the ticket is still there, because only the statement of a new lease deletes it."""
        if not self.outcome.done():
            self.has_ticket = grant.replayed
            self.outcome.set_result(grant)

    def fail(self, error: Exception, *, has_ticket: bool) -> None:
        if not self.outcome.done():
            self.has_ticket = has_ticket
            self.outcome.set_exception(error)
            self.outcome.exception()  # marks it as retrieved, because the caller may have been cancelled


class LocalWaiters:
    def __init__(self) -> None:
        self._by_queue: defaultdict[tuple[Pool, Purpose], dict[int, Waiter]] = defaultdict(dict)
        self._joining: defaultdict[tuple[Pool, Purpose], set[Waiter]] = defaultdict(set)
        self.being_inserted = asyncio.Lock()
        """Held while tickets are inserted, until their waiters are here.

        While it is free, a ticket without a waiter is a stray.
        """

    def __iter__(self) -> Iterator[Waiter]:
        for waiters in self._by_queue.values():
            yield from waiters.values()

    def of_queue(self, queue: tuple[Pool, Purpose]) -> Mapping[int, Waiter]:
        """By the ids of their tickets; stays up to date."""
        return self._by_queue[queue]

    def of_queue_or_joining(self, queue: tuple[Pool, Purpose]) -> Iterator[Waiter]:
        """Also those whose tickets are not inserted yet."""
        yield from self._joining[queue]
        yield from self._by_queue[queue].values()

    @contextmanager
    def joining(self, waiter: Waiter) -> Iterator[None]:
        """In the block, the ticket of the waiter is being inserted."""
        self._joining[waiter.request.queue].add(waiter)
        try:
            yield
        finally:
            self._joining[waiter.request.queue].remove(waiter)

    def ticket_ids(self) -> list[int]:
        return [ticket_id for waiters in self._by_queue.values() for ticket_id in waiters]

    def add(self, waiter: Waiter) -> None:
        """A former waiter with the same ticket fails with WaitSupersededError."""
        waiters = self._by_queue[waiter.request.queue]
        former = waiters.get(waiter.ticket.id)
        if former:
            former.fail(WaitSupersededError(), has_ticket=False)
        waiters[waiter.ticket.id] = waiter

    def remove(self, waiter: Waiter) -> bool:
        """False when the waiter was not here, or another one has taken over its ticket."""
        waiters = self._by_queue[waiter.request.queue]
        if waiters.get(waiter.ticket.id) is not waiter:
            return False
        del waiters[waiter.ticket.id]
        return True
