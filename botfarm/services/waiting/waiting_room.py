"""Requests wait here for users: each has a ticket in the database, and makes no statement while it sleeps.

A ticket is committed before the queue is read, and the request sleeps after that. So a release either sees
the ticket and wakes the request, or was committed before the queue was read. A ticket is granted only by its
own process, in the order of the queue, and only while its row is there: whichever statement deletes the row
decides the outcome.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import HeldTicket, LastPlace
from botfarm.domain.leases import Grant, LeaseRequest, Purpose
from botfarm.domain.pools import Pool
from botfarm.errors import (
    BotfarmError,
    CallerGoneError,
    PoolExhaustedError,
    ShuttingDownError,
    UnavailableError,
    WaitSupersededError,
)
from botfarm.services.granting.grants import Grants
from botfarm.services.shared.caller_connection import CallerConnection
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.pools import Pools, pool_exhausted
from botfarm.services.waiting.local_waiters import LocalWaiters, Waiter
from botfarm.services.waiting.pool_queue import PoolQueue
from botfarm.services.waiting.replica_heartbeat import ReplicaHeartbeat
from botfarm.services.waiting.ticket_desk import TicketDesk
from botfarm.services.waiting.waiting_places import WaitingPlaces


class WaitingRoom:
    def __init__(
        self,
        database: Database,
        listener: Listener | None,
        notifier: Notifier,
        pools: Pools,
        grants: Grants,
        *,
        replica_id: UUID,
        max_waiters: int,
    ) -> None:
        """Without a listener no NOTIFY arrives, so the queues are read every second while requests wait."""
        self._database = database
        self._listener = listener
        self._notifier = notifier
        self._pools = pools
        self._grants = grants
        self._replica_id = replica_id
        self._is_stopped = False
        self._places = WaitingPlaces(max_waiters)
        self._waiters = LocalWaiters()
        self._queues: dict[tuple[Pool, Purpose], PoolQueue] = {}
        self._heartbeat = ReplicaHeartbeat(database, self._places, self._waiters, replica_id=replica_id)
        self._desk = TicketDesk(database, listener, self._heartbeat, self._waiters, replica_id=replica_id)
        self._turning_away: set[asyncio.Task[None]] = set()
        if listener:
            listener.call(self.wake)

    async def wait(
        self, request: LeaseRequest, connection: CallerConnection, *, started: float, wait_seconds: float
    ) -> tuple[Grant, float]:
        """Waits until the request is granted, for `wait_seconds` since it started (monotonic clock).

        Returns the grant, and the time since when it had been waited for: that of the first request under its
        key.

        Raises PoolExhaustedError when the time is over, CallerGoneError, WaitSupersededError,
        IdempotencyKeyReusedError, TooManyWaitersError, ShuttingDownError, and what the grant raises.
        """
        disconnect = asyncio.ensure_future(connection.until_closed())
        try:
            if self._is_stopped:
                raise ShuttingDownError
            with self._places.taken_by(request.principal.name):
                waiter = Waiter(request, started=started, deadline=started + wait_seconds)
                return await self._wait(waiter, disconnect)
        finally:
            disconnect.cancel()

    def is_behind_others(self, request: LeaseRequest) -> bool:
        """True if a request in this process waits for the same users and at least as many of them.

        A grant without a ticket could then only fail, or overtake a request whose ticket is being inserted.
        """
        return any(
            waiter.request.labels == request.labels
            and waiter.request.user_id == request.user_id
            and waiter.request.count >= request.count
            for waiter in self._waiters.of_queue_or_joining(request.queue)
            if not waiter.is_over
        )

    def wake(self, project_id: UUID | None) -> None:
        """Serves the queues of the project, in which users may have been freed.

        With None all queues are read: the database has been away. A reading that fails answers no request.
        """
        for (pool, _), queue in self._queues.items():
            if project_id is None:
                queue.wake()
            elif pool.project_id == project_id:
                queue.freed()

    def stop(self) -> None:
        """Answers all waiting requests with ShuttingDownError, now.

        Places are kept for keys, at another replica.
        """
        self._is_stopped = True
        waiters = list(self._waiters)
        for waiter in waiters:
            if waiter.granting:  # its outcome is known in a moment
                waiter.granting.add_done_callback(partial(self._turn_away_after, waiter))
        self._turn_away([waiter for waiter in waiters if not waiter.granting])

    async def close(self) -> None:
        """Call it after `stop`, when all waiting requests have been answered."""
        await asyncio.gather(*(queue.close() for queue in self._queues.values()))
        await asyncio.gather(*self._turning_away)
        await self._heartbeat.close()

    async def _wait(self, waiter: Waiter, disconnect: "asyncio.Future[None]") -> tuple[Grant, float]:
        with self._waiters.joining(waiter):
            await self._arrive(waiter)
        try:
            await self._sleep(waiter, disconnect)
            if waiter.outcome.done():
                return await self._settled(waiter), waiter.waiting_since
            last_place = await self._withdraw(waiter, keep_place=True)
            if waiter.outcome.done():
                return await self._settled(waiter), waiter.waiting_since
            raise await self._refusal(waiter, last_place, has_disconnected=disconnect.done())
        finally:
            self._forget(waiter)

    async def _arrive(self, waiter: Waiter) -> None:
        request = waiter.request
        try:
            await self._desk.insert(waiter)
            if self._is_stopped:
                self._turn_away([waiter])
            elif await self._was_granted_meanwhile(request):
                self._queue_of(request).grant(waiter)
        except BaseException:  # even if the caller was cancelled, the ticket may have been inserted
            waiter.is_leaving = True
            if waiter.was_admitted:
                self._forget(waiter)
            self._heartbeat.suspect_strays()
            raise
        self._queue_of(request).wake()

    async def _was_granted_meanwhile(self, request: LeaseRequest) -> bool:
        """True if the request that this one repeats was granted before this one took over the ticket."""
        if request.terms.idempotency_key is None:
            return False
        async with self._database.autocommit() as session:
            return await ticket_queries.has_lease(
                session, principal=request.principal.name, idempotency_key=request.terms.idempotency_key
            )

    async def _sleep(self, waiter: Waiter, disconnect: "asyncio.Future[None]") -> None:
        """Sleeps until the wait is over. After that no grant is in flight, and none will be started."""
        seconds = max(0.0, waiter.deadline - time.monotonic())
        await asyncio.wait((waiter.outcome, disconnect), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiter.is_leaving = True
        if waiter.granting and not waiter.outcome.done():
            await asyncio.wait({waiter.granting})

    async def _settled(self, waiter: Waiter) -> Grant:
        """The outcome, after a ticket that is still there has been deleted."""
        if waiter.has_ticket:
            with contextlib.suppress(UnavailableError):  # the ticket is then a stray
                await self._withdraw(waiter, keep_place=False)
        return waiter.outcome.result()

    async def _refusal(
        self, waiter: Waiter, last_place: LastPlace | None, *, has_disconnected: bool
    ) -> BotfarmError:
        request, waited = waiter.request, time.monotonic() - waiter.started
        if last_place is None and not has_disconnected:
            was_taken_over = request.terms.idempotency_key is not None
            return WaitSupersededError() if was_taken_over else PoolExhaustedError(waited=round(waited, 3))
        counts = await self._pools.count(request)
        if counts.free > 0:
            self._wake_others(request)
        if last_place is None or has_disconnected:
            return CallerGoneError()
        counts = replace(counts, waiting=last_place.waiting)
        return pool_exhausted(counts, request, waited=waited, place=last_place.place)

    async def _withdraw(self, waiter: Waiter, *, keep_place: bool) -> LastPlace | None:
        """None when the ticket was not this replica's any more."""
        last_place = await self._desk.withdraw(waiter.ticket, keep_place=keep_place)
        waiter.has_ticket = False
        return last_place

    def _wake_others(self, request: LeaseRequest) -> None:
        """Wakes the requests behind a ticket that has left the queue, here and at other replicas."""
        self._queue_of(request).wake()
        self._notifier.freed(request.pool.project_id)

    def _forget(self, waiter: Waiter) -> None:
        if self._waiters.remove(waiter) and waiter.has_ticket:
            self._heartbeat.suspect_strays()

    def _turn_away(self, waiters: Sequence[Waiter]) -> None:
        tickets = [waiter.ticket for waiter in waiters if not waiter.outcome.done()]
        for waiter in waiters:
            waiter.fail(ShuttingDownError(), has_ticket=False)
        if tickets:
            withdrawing = asyncio.create_task(self._withdraw_all(tickets))
            self._turning_away.add(withdrawing)
            withdrawing.add_done_callback(self._turning_away.discard)

    def _turn_away_after(self, waiter: Waiter, _: object) -> None:
        self._turn_away([waiter])

    async def _withdraw_all(self, tickets: Sequence[HeldTicket]) -> None:
        # If this fails, the tickets count no more five seconds after the last heartbeat.
        with contextlib.suppress(UnavailableError):
            await self._desk.withdraw_all(tickets)

    def _queue_of(self, request: LeaseRequest) -> PoolQueue:
        queue = self._queues.get(request.queue)
        if queue is None:
            queue = self._queues[request.queue] = PoolQueue(
                self._database,
                self._listener,
                self._grants,
                self._waiters,
                request.queue,
                replica_id=self._replica_id,
            )
        return queue
