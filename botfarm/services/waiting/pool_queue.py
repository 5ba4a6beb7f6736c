"""The line of one pool as this process sees it: whose turn it is, among all replicas, and the grants of those who wait here."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Generic
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.waiting import ticket_queries
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import Line, WaitingRequest
from botfarm.errors import ConnectionsBusyError, UnavailableError
from botfarm.logs import get_logger
from botfarm.services.waiting.fair_order import is_mixed, whose_turn
from botfarm.services.waiting.local_waiters import GrantedT, Waiter
from botfarm.services.waiting.wakeable_loop import Lookout

logger = get_logger(__name__)

Grant = Callable[[WaitingRequest, int], Awaitable[GrantedT | None]]
"""Grants a request by the id of its ticket. None when too few users could be locked, or the ticket was gone."""

# Seconds. The first pause is for what is free and could not be had: somebody has it locked for a moment.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 5.0
# After a look that failed.
RETRY_PAUSE = 0.5
# So much later than the moment when time frees a user: to be too early costs another look.
SLACK = 0.002


class PoolLine(Generic[GrantedT]):
    def __init__(
        self,
        database: Database,
        pool: Pool,
        *,
        replica_id: UUID,
        grant: Grant[GrantedT],
        interval: Callable[[], float],
    ) -> None:
        """`interval` gives the seconds between two looks at a pool that nobody woke."""
        self._database = database
        self._pool = pool
        self._replica_id = replica_id
        self._grant = grant
        self._interval = interval
        self._lookout = Lookout(self._look)
        self._after_a_miss, self._held_up = _Pauses(), _Pauses()
        self._is_mixed = False
        self._grants: set[asyncio.Task[None]] = set()
        self.waiters: dict[int, Waiter[GrantedT]] = {}
        """By their tickets."""

    def wake(self) -> None:
        if self.waiters:
            self._lookout.wake()

    def try_now(self, waiter: Waiter[GrantedT]) -> None:
        waiter.granting = asyncio.create_task(self._try(waiter))
        self._grants.add(waiter.granting)
        waiter.granting.add_done_callback(self._grants.discard)

    async def close(self) -> None:
        """What is under way finishes first."""
        await self._lookout.close()
        await asyncio.gather(*self._grants)

    async def _look(self) -> float | None:
        if not self.waiters:
            return None
        try:
            async with self._database.direct() as executor:
                line = await ticket_queries.line_of(executor, self._pool, replica=self._replica_id)
        except UnavailableError:
            return _jittered(RETRY_PAUSE)
        except Exception:
            logger.exception("line")
            return _jittered(LONGEST_PAUSE)
        pauses = [_jittered(self._interval())]
        if line.due_in is not None:
            pauses.append(line.due_in + SLACK)
        if self._serve(line):
            pauses.append(self._held_up.next())
        else:
            self._held_up = _Pauses()
        return min(pauses)

    def _serve(self, line: Line) -> bool:
        """Begins the grants whose turn it is. True when a later look may find more, although nobody frees a user."""
        turns = whose_turn(line)
        for place in turns:
            waiter = self.waiters.get(place.ticket_id) if place.is_ours else None
            if waiter and waiter.may_be_granted:
                self.try_now(waiter)
        self._is_mixed = is_mixed(line)
        return self._is_mixed and len(turns) < len(line.places)

    async def _try(self, waiter: Waiter[GrantedT]) -> None:
        ticket_id = waiter.ticket.id
        try:
            granted = await self._grant(waiter.request, ticket_id)
        except ConnectionsBusyError:  # nothing was asked of the database
            granted = None
        except Exception as error:  # noqa: BLE001  it is raised again, to whom it belongs
            self._owner(ticket_id, waiter).fail(error, has_ticket=True)
            return
        finally:
            waiter.granting = None
        # A re-post may have taken the place over meanwhile.
        owner = self._owner(ticket_id, waiter)
        if granted is not None:
            owner.succeed(granted)
            self._after_a_miss = _Pauses()
            if self._is_mixed:
                self.wake()
        elif not owner.is_over():
            self._lookout.wake_within(self._after_a_miss.next())

    def _owner(self, ticket_id: int, waiter: Waiter[GrantedT]) -> Waiter[GrantedT]:
        return self.waiters.get(ticket_id, waiter)


class _Pauses:
    """Short at first, then ever longer."""

    def __init__(self) -> None:
        self._seconds = FIRST_PAUSE

    def next(self) -> float:
        seconds = self._seconds
        self._seconds = min(2 * seconds, LONGEST_PAUSE)
        return _jittered(seconds)


def _jittered(seconds: float) -> float:
    """Replicas are not to march in step."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311
