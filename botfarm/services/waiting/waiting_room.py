"""Where requests wait for users: each with a ticket in the database, and nothing else there while it sleeps.

A ticket is committed first, then tried, then it sleeps: so a release either sees it, or happened before it was tried.
It is granted only by its own process, when its turn has come, and only while its row is there: whoever deletes that
has decided.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import Left, Parked
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import WaitingRequest
from botfarm.errors import (
    BotfarmError,
    CallerGoneError,
    PoolExhaustedError,
    ShuttingDownError,
    UnavailableError,
    WaitSupersededError,
)
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.exhausted import exhausted
from botfarm.services.stock.pool_counting import PoolCounting, sorted_labels
from botfarm.services.waiting.deadlines import Deadlines
from botfarm.services.waiting.departures import Departures
from botfarm.services.waiting.local_waiters import GrantedT, Waiter
from botfarm.services.waiting.pool_queue import Grant, PoolLine
from botfarm.services.waiting.replica_heartbeat import Presence
from botfarm.services.waiting.ticket_desk import Arrival, Arrivals
from botfarm.services.waiting.waiting_places import WaitingPlaces

# Seconds between two looks at a pool that nobody woke: where a wake may be missed, and where there are none.
INTERVAL, INTERVAL_DEAF = 5.0, 1.0


class WaitingRoom(Generic[GrantedT]):
    def __init__(
        self,
        database: Database,
        listener: Listener | None,
        notifier: Notifier,
        counting: PoolCounting,
        *,
        replica_id: UUID,
        max_waiters: int,
        grant: Grant[GrantedT],
    ) -> None:
        """Without a listener nobody says when users are freed: then who waits looks every second."""
        self._database = database
        self._listener = listener
        self._notifier = notifier
        self._counting = counting
        self._replica_id = replica_id
        self._places = WaitingPlaces(max_waiters)
        self._grant = grant
        self._is_stopped = False
        self._lines: dict[Pool, PoolLine[GrantedT]] = {}
        self._deadlines = Deadlines[Waiter[GrantedT]]()
        self._departures = Departures(database, replica_id)
        arriving = asyncio.Lock()
        self._presence = Presence(
            database,
            replica_id,
            is_needed=lambda: self._places.are_taken,
            known=lambda: [ticket_id for line in self._lines.values() for ticket_id in line.waiters],
            arriving=arriving,
        )
        self._arrivals = Arrivals[GrantedT](
            database, listener, self._presence, replica_id=replica_id, arriving=arriving, admit=self._admit
        )
        self._turning_away: set[asyncio.Task[None]] = set()
        if listener:
            listener.call(self.wake)

    async def wait(
        self, request: WaitingRequest, *, started: float, wait_seconds: float, gone: Awaitable[None]
    ) -> tuple[GrantedT, float]:
        """Until the request is granted, for so many seconds since it started, by the monotonic clock.

        Gives what was granted, and the moment since when it had been waited for: that of the first request under its key.

        `gone` ends when the caller has hung up; it is cancelled with the wait.
        Raises PoolExhaustedError, CallerGoneError, WaitSupersededError, IdempotencyKeyReusedError,
        TooManyWaitersError, ShuttingDownError, and what the grant raises.
        """
        caller = asyncio.ensure_future(gone)
        try:
            if self._is_stopped:
                raise ShuttingDownError
            with self._places.taken_by(request.principal):
                return await self._wait(request, caller, started=started, deadline=started + wait_seconds)
        finally:
            caller.cancel()

    def is_behind_others(self, request: WaitingRequest) -> bool:
        """Whether somebody waits here for such users, and for as many of them: so there are as many, and none are left over."""
        line = self._lines.get(request.pool)
        return line is not None and any(
            waiter.request.labels == request.labels and waiter.request.count >= request.count
            for waiter in line.waiters.values()
            if not waiter.is_over()
        )

    def wake(self, project_id: UUID | None) -> None:
        """Users of the project may have been freed; of any, with None."""
        for pool, line in self._lines.items():
            if project_id is None or pool.project_id == project_id:
                line.wake()

    def stop(self) -> None:
        """Answers all who wait with ShuttingDownError, now; those with a key may come back to their place elsewhere."""
        self._is_stopped = True
        waiters = [waiter for line in self._lines.values() for waiter in line.waiters.values()]
        for waiter in waiters:
            if waiter.granting:  # what became of it is known in a moment
                waiter.granting.add_done_callback(partial(self._turn_away_after, waiter))
        self._turn_away([waiter for waiter in waiters if not waiter.granting])

    async def close(self) -> None:
        """After `stop`, and after all who waited have been answered."""
        self._deadlines.close()
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        await asyncio.gather(*self._turning_away)
        await self._presence.close()

    async def _wait(
        self, request: WaitingRequest, caller: "asyncio.Future[None]", *, started: float, deadline: float
    ) -> tuple[GrantedT, float]:
        waiter = await self._arrive(Arrival(request, started=started, deadline=deadline))
        try:
            await self._sleep(waiter, caller)
            if waiter.outcome.done():
                return await self._settled(waiter), waiter.since
            left = await self._leave(waiter, keeps_place=True)
            if waiter.outcome.done():
                return await self._settled(waiter), waiter.since
            raise await self._why_none(waiter, left, caller_is_gone=caller.done(), started=started)
        finally:
            self._forget(waiter)

    async def _arrive(self, arrival: Arrival[GrantedT]) -> Waiter[GrantedT]:
        try:
            waiter = await self._arrivals.park(arrival)
            if self._is_stopped:
                self._turn_away([waiter])
            elif await self._was_granted_meanwhile(arrival.request):
                self._line_of(arrival.request.pool).try_now(waiter)
        except BaseException:  # a cancelled caller's ticket may be there, too
            arrival.is_abandoned = True
            if arrival.waiter:
                self._forget(arrival.waiter)
            self._presence.suspect_strays()
            raise
        self._deadlines.add(arrival.deadline - time.monotonic(), waiter)
        self._line_of(arrival.request.pool).wake()
        return waiter

    def _admit(self, waiter: Waiter[GrantedT]) -> None:
        waiters = self._line_of(waiter.request.pool).waiters
        former = waiters.get(waiter.ticket.id)
        if former:
            former.fail(WaitSupersededError(), has_ticket=False)
        waiters[waiter.ticket.id] = waiter

    async def _was_granted_meanwhile(self, request: WaitingRequest) -> bool:
        """While this request was on its way the one that it repeats may have got its users, and the ticket with them."""
        if request.idempotency_key is None:
            return False
        async with self._database.autocommit() as session:
            return await ticket_queries.has_lease(
                session, principal=request.principal, idempotency_key=request.idempotency_key
            )

    async def _sleep(self, waiter: Waiter[GrantedT], caller: "asyncio.Future[None]") -> None:
        """Until the wait is over; then no grant is under way, and none will be."""
        ends: list[asyncio.Future[Any]] = [waiter.outcome, waiter.time_is_over, caller]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        waiter.is_leaving = True
        if waiter.granting and not waiter.outcome.done():
            await asyncio.wait({waiter.granting})

    async def _settled(self, waiter: Waiter[GrantedT]) -> GrantedT:
        """The outcome, after what is left of the ticket has been removed."""
        if waiter.has_ticket:
            with contextlib.suppress(UnavailableError):  # then it is a stray
                await self._leave(waiter, keeps_place=False)
        return waiter.outcome.result()

    async def _why_none(
        self, waiter: Waiter[GrantedT], left: Left | None, *, caller_is_gone: bool, started: float
    ) -> BotfarmError:
        request, waited = waiter.request, time.monotonic() - started
        if left is None and not caller_is_gone:
            is_taken_over = request.idempotency_key is not None
            return WaitSupersededError() if is_taken_over else PoolExhaustedError(waited=round(waited, 3))
        counts = await self._counting.count(request.pool, sorted_labels(request.labels))
        if counts.free > 0:
            self._free_for_others(request.pool)
        if left is None or caller_is_gone:
            return CallerGoneError()
        return exhausted(replace(counts, waiting=left.waiting), waited=waited, place=left.place)

    async def _leave(self, waiter: Waiter[GrantedT], *, keeps_place: bool) -> Left | None:
        """None when the ticket was not ours any more."""
        left = await self._departures.leave(waiter.ticket, keeps_place=keeps_place)
        waiter.has_ticket = False
        return left

    def _free_for_others(self, pool: Pool) -> None:
        """What a ticket kept from those behind it."""
        self._line_of(pool).wake()
        self._notifier.freed(pool.project_id)

    def _forget(self, waiter: Waiter[GrantedT]) -> None:
        waiters = self._line_of(waiter.request.pool).waiters
        if waiters.get(waiter.ticket.id) is waiter:
            del waiters[waiter.ticket.id]
            if waiter.has_ticket:
                self._presence.suspect_strays()

    def _turn_away(self, waiters: Sequence[Waiter[GrantedT]]) -> None:
        tickets = [(waiter.ticket, True) for waiter in waiters if not waiter.outcome.done()]
        for waiter in waiters:
            waiter.fail(ShuttingDownError(), has_ticket=False)
        if tickets:
            leaving = asyncio.create_task(self._turn_away_together(tickets))
            self._turning_away.add(leaving)
            leaving.add_done_callback(self._turning_away.discard)

    def _turn_away_after(self, waiter: Waiter[GrantedT], _: object) -> None:
        self._turn_away([waiter])

    async def _turn_away_together(self, tickets: Sequence[tuple[Parked, bool]]) -> None:
        # If that fails: five seconds after this process has ended its tickets count no more.
        with contextlib.suppress(UnavailableError):
            async with self._database.autocommit() as session:
                await ticket_queries.leave(session, tickets, replica=self._replica_id)

    def _line_of(self, pool: Pool) -> PoolLine[GrantedT]:
        line = self._lines.get(pool)
        if line is None:
            line = self._lines[pool] = PoolLine(
                self._database,
                pool,
                replica_id=self._replica_id,
                grant=self._grant,
                interval=self._interval,
            )
        return line

    def _interval(self) -> float:
        return INTERVAL if self._listener and self._listener.is_connected else INTERVAL_DEAF
