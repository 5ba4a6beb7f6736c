"""A queue of one pool, of its tests or its keepers.

This process reads the tickets of all replicas, and grants its own.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from uuid import UUID

from botfarm.db.postgres.driver import Executor
from botfarm.db.postgres.engine import Database
from botfarm.db.postgres.listener import Listener
from botfarm.db.waiting import queue_queries
from botfarm.domain.leases import Grant, LeaseRequest, Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import Place, Queue
from botfarm.errors import ConnectionsBusyError, UnavailableError
from botfarm.logs import get_logger
from botfarm.services.granting.grants import Grants
from botfarm.services.waiting.fair_order import grantable, is_mixed, overtaking
from botfarm.services.waiting.local_waiters import LocalWaiters, Waiter

logger = get_logger(__name__)

GrantTicket = Callable[[LeaseRequest, int], Awaitable[Grant | None]]

# Seconds until a queue is read again if nothing wakes it: while NOTIFY arrives, and while it does not.
POLL_INTERVAL, POLL_INTERVAL_WITHOUT_NOTIFY = 5.0, 1.0
# Seconds of the exponential back-off, for example after a grant that got no users. The first pause is short,
# because another statement may lock a free user for a moment.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 5.0
# Seconds until the next reading after one that failed, because the database was unavailable.
RETRY_PAUSE = 0.5
# Seconds that a grantable ticket waits for one before it that another replica grants. That replica may be dead.
LONGEST_HOLD = 0.2
# Seconds after a user becomes free by itself until the queue is read, because a reading that comes too early
# must be repeated.
SLACK = 0.002


class PoolQueue:
    def __init__(
        self,
        database: Database,
        listener: Listener | None,
        grants: Grants,
        waiters: LocalWaiters,
        queue: tuple[Pool, Purpose],
        *,
        replica_id: UUID,
    ) -> None:
        self._database = database
        self._listener = listener
        self._grants = grants
        self._waiters = waiters.of_queue(queue)
        self._queue = queue
        self._replica_id = replica_id
        self._loop = WakeableLoop(self._serve)
        self._after_a_miss, self._held_up = _Pauses(), _Pauses()
        self._is_mixed = False
        self._first: int | None = None
        """The id of the first ticket, as of the last reading."""
        self._granting: set[asyncio.Task[None]] = set()
        self._is_trying_first = False
        self._held_since: dict[int, float] = {}
        """By the ids of grantable tickets that would overtake tickets of other replicas."""

    def wake(self) -> None:
        """Reads the queue soon, if requests wait here."""
        if self._waiters:
            self._loop.wake()

    def freed(self) -> None:
        """Says that a user may have been freed.

        The first ticket needs no reading of the queue, because it goes before all others. If it is of this process,
        it is tried at once, and the queue is read after that. A ticket for several users is not tried, because a
        try locks the users that it finds, and most tries would find too few.
        """
        first = self._waiters.get(self._first) if self._first is not None else None
        if (
            first
            and first.may_be_granted
            and first.request.count == 1
            and not first.request.principal.has_quota
        ):
            self._is_trying_first = True
            self._start(first, self._grant_first(first))
        else:
            self.wake()

    def grant(self, waiter: Waiter) -> None:
        """Starts a grant of the waiter's ticket."""
        self._start(waiter, self._grant_in_turn(waiter))

    def _start(self, waiter: Waiter, granting: Coroutine[None, None, None]) -> None:
        waiter.granting = asyncio.create_task(granting)
        self._granting.add(waiter.granting)
        waiter.granting.add_done_callback(self._granting.discard)

    async def close(self) -> None:
        """Lets the reading and the grants in flight finish."""
        await self._loop.close()
        await asyncio.gather(*self._granting)

    async def _serve(self) -> float | None:
        """Reads the queue and starts the grants.

        Returns the seconds until the next reading, None while no request waits, and while the first ticket is tried:
        no other may be granted before it, and the queue is read after it.
        """
        if not self._waiters or self._is_trying_first:
            return None
        try:
            async with self._database.direct() as executor:
                queue = await self._read(executor)
        except UnavailableError:
            return _jittered(RETRY_PAUSE)
        except Exception:
            logger.exception("reading a queue failed")
            return _jittered(LONGEST_PAUSE)
        places, self._is_mixed, self._first = grantable(queue), is_mixed(queue), queue.first
        held = self._held(places)
        for place in places:
            waiter = self._waiters.get(place.ticket_id) if place.is_ours else None
            if waiter and waiter.may_be_granted and place.ticket_id not in held:
                self.grant(waiter)
        pauses = [_jittered(self._poll_interval())]
        if queue.due_in is not None:
            pauses.append(queue.due_in + SLACK)
        if self._is_mixed and len(places) < len(queue.places):
            # A grant may leave users that another ticket can have, although none is freed.
            pauses.append(self._held_up.next())
        else:
            self._held_up = _Pauses()
        if held:
            pauses.append(_jittered(FIRST_PAUSE))
        return min(pauses)

    async def _read(self, executor: Executor) -> Queue:
        return await queue_queries.read_queue(executor, *self._queue, replica=self._replica_id)

    async def _is_its_turn(self, executor: Executor, ticket_id: int) -> bool:
        return any(place.ticket_id == ticket_id for place in grantable(await self._read(executor)))

    def _held(self, places: Sequence[Place]) -> set[int]:
        """The ids of grantable tickets that wait until another replica has granted those before them."""
        now = time.monotonic()
        self._held_since = {
            place.ticket_id: self._held_since.get(place.ticket_id, now) for place in overtaking(places)
        }
        return {ticket_id for ticket_id, since in self._held_since.items() if now < since + LONGEST_HOLD}

    async def _grant_first(self, waiter: Waiter) -> None:
        await self._grant(waiter, self._grants.grant_first)
        self._is_trying_first = False
        self.wake()

    async def _grant_in_turn(self, waiter: Waiter) -> None:
        if not await self._grant(waiter, partial(self._grants.grant_ticket, is_its_turn=self._is_its_turn)):
            self._loop.wake_within(self._after_a_miss.next())

    async def _grant(self, waiter: Waiter, grant_ticket: GrantTicket) -> bool:
        """False if the waiter still wants a grant."""
        ticket_id = waiter.ticket.id
        try:
            grant = await grant_ticket(waiter.request, ticket_id)
        except ConnectionsBusyError:  # no statement was sent
            grant = None
        except Exception as error:  # noqa: BLE001  it is raised again, in the request that waits
            self._owner(ticket_id, waiter).fail(error, has_ticket=True)
            return True
        finally:
            waiter.granting = None
        # A repeated request under the same key may have taken over the ticket meanwhile.
        owner = self._owner(ticket_id, waiter)
        if grant is not None:
            owner.succeed(grant)
            self._after_a_miss = _Pauses()
            if self._is_mixed:
                self.wake()
        return owner.is_over

    def _owner(self, ticket_id: int, waiter: Waiter) -> Waiter:
        return self._waiters.get(ticket_id, waiter)

    def _poll_interval(self) -> float:
        notified = self._listener is not None and self._listener.is_connected
        return POLL_INTERVAL if notified else POLL_INTERVAL_WITHOUT_NOTIFY


class WakeableLoop:
    """Runs one step at a time. A wake during a step leads to another step, so no wake is lost."""

    def __init__(self, step: Callable[[], Awaitable[float | None]]) -> None:
        """`step` never raises.

        It returns the seconds until the next step is due, or None when only a wake makes one.
        """
        self._step = step
        self._due_at = float("inf")
        self._is_earlier = asyncio.Event()
        self._is_closed = False
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        self.wake_within(0)

    def wake_within(self, seconds: float) -> None:
        """Makes the next step due in `seconds`, unless it is due earlier."""
        due_at = asyncio.get_running_loop().time() + seconds
        if self._is_closed or due_at >= self._due_at:
            return
        self._due_at = due_at
        self._is_earlier.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Lets a step in flight finish, and starts no other."""
        self._is_closed = True
        self._due_at = float("-inf")
        self._is_earlier.set()
        if self._running:
            await self._running

    async def _run(self) -> None:
        try:
            while self._due_at < float("inf"):
                await self._until_due()
                if self._is_closed:
                    return
                self._due_at = float("inf")
                seconds = await self._step()
                if seconds is not None:
                    self.wake_within(seconds)
        finally:
            self._running = None

    async def _until_due(self) -> None:
        while (seconds := self._due_at - asyncio.get_running_loop().time()) > 0:
            self._is_earlier.clear()
            try:
                await asyncio.wait_for(self._is_earlier.wait(), seconds)
            except TimeoutError:
                return


class _Pauses:
    """Pauses that double, from `FIRST_PAUSE` to `LONGEST_PAUSE`."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE

    def next(self) -> float:
        seconds = self._seconds
        self._seconds = min(2 * seconds, LONGEST_PAUSE)
        return _jittered(seconds)


def _jittered(seconds: float) -> float:
    """Spreads the replicas, so that they do not read at the same moments."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311
