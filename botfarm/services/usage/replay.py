"""Replays requests through a pool of another size: how long each would have waited.

`fair_order` decides whose turn it is, as in the living farm. Around it are a clock that jumps from event to event,
and users that are no more than numbers.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from botfarm.domain.waiting import PRIORITY_STEP, Place, Queue
from botfarm.services.waiting.fair_order import grantable, is_mixed

Users = Mapping[frozenset[int], int]
"""Users, counted by exactly the sets of labels that they match, as in a `Queue`."""

# Seconds by which a request of no test ranks behind all tests.
_BEHIND_TESTS = 1e12


@dataclass(frozen=True, slots=True)
class Request:
    """Times are seconds since any one moment."""

    arrival: float
    hold: float
    """From the grant to the end of the lease."""
    out: float
    """From the grant until its users are free again: with their rest."""
    wanted: int = 0
    """The number of the set of labels that it asks for."""
    count: int = 1
    priority: int = 0
    is_test: bool = True
    """Other requests never stand in front of a test."""

    @property
    def rank(self) -> float:
        rank = self.arrival - self.priority * PRIORITY_STEP
        return rank if self.is_test else rank + _BEHIND_TESTS


def replay(requests: Sequence[Request], users: Users, *, resting: bool = True) -> list[float]:
    """The waits of the requests, in seconds. The requests are in the order of their arrival.

    No request gives up. A request that asks for more users than match it waits for ever (`math.inf`), and
    holds up no other. Without `resting`, users are free as soon as their lease ends.
    """
    pool = _ReplayedPool(requests, users, resting=resting)
    pool.run()
    return pool.waits


class _ReplayedPool:
    """Users that match the same sets of labels are one group."""

    def __init__(self, requests: Sequence[Request], users: Users, *, resting: bool) -> None:
        self._requests = requests
        self._resting = resting
        self._matches = sorted(users, key=sorted)
        self._sizes = [users[matches] for matches in self._matches]
        self._free = list(self._sizes)
        self._groups = {
            wanted: [group for group, matches in enumerate(self._matches) if wanted in matches]
            for wanted in {request.wanted for request in requests}
        }
        self._waiting: dict[int, list[tuple[float, int, Place]]] = {}
        """By sets of labels: rank, number and place, in the order of the queue."""
        self._returns: list[tuple[float, int, int]] = []
        """A heap of the users that are not free: the time when they are, their group, and how many."""
        self.waits = [inf] * len(requests)

    def run(self) -> None:
        most = {
            wanted: sum(self._sizes[group] for group in groups) for wanted, groups in self._groups.items()
        }
        for number, request in enumerate(self._requests):
            self._let_users_return(until=request.arrival)
            if request.count > most[request.wanted]:
                continue
            # As in the farm, a request gets free users at once while no other waits.
            if not self._waiting and self._free_for(request.wanted) >= request.count:
                self._grant(number, request.arrival)
                continue
            place = Place(number, request.wanted, request.count, is_ours=True)
            insort(self._waiting.setdefault(request.wanted, []), (request.rank, number, place))
            self._serve(request.arrival)
        self._let_users_return(until=inf)

    def _let_users_return(self, *, until: float) -> None:
        returns = self._returns
        while returns and returns[0][0] <= until:
            now = returns[0][0]
            while returns and returns[0][0] == now:
                _, group, users = heapq.heappop(returns)
                self._free[group] += users
            if self._waiting:
                self._serve(now)

    def _serve(self, now: float) -> None:
        while places := self._first_places():
            queue = Queue(places, dict(zip(self._matches, self._free, strict=True)))
            granted = grantable(queue)
            for place in granted:
                self._leave(place)
                self._grant(place.ticket_id, now)
            if not granted or not is_mixed(queue):
                return

    def _first_places(self) -> list[Place]:
        """The places that matter: as the statement that reads a queue, it leaves out those that none is free for.

        Behind tickets that want all free users of a set, a later ticket of the set cannot be granted, and
        holds up no other ticket more than they do.
        """
        first = []
        for wanted, waiting in self._waiting.items():
            left = self._free_for(wanted)
            for entry in waiting:
                if left <= 0:
                    break
                first.append(entry)
                left -= entry[2].count
        if len(self._waiting) > 1:
            first.sort()
        return [place for _, _, place in first]

    def _free_for(self, wanted: int) -> int:
        free = 0
        for group in self._groups[wanted]:
            free += self._free[group]
        return free

    def _leave(self, place: Place) -> None:
        waiting = self._waiting[place.wanted]
        request = self._requests[place.ticket_id]
        del waiting[bisect_left(waiting, (request.rank, place.ticket_id))]
        if not waiting:
            del self._waiting[place.wanted]

    def _grant(self, number: int, now: float) -> None:
        request = self._requests[number]
        self.waits[number] = now - request.arrival
        back_at = now + (request.out if self._resting else request.hold)
        groups = self._groups[request.wanted]
        if len(groups) == 1:
            self._take(groups[0], request.count, back_at)
            return
        for _ in range(request.count):
            # The farm takes users in rotation, so each group gives users in proportion.
            self._take(max(groups, key=self._share_that_is_free), 1, back_at)

    def _share_that_is_free(self, group: int) -> float:
        return self._free[group] / self._sizes[group]

    def _take(self, group: int, users: int, back_at: float) -> None:
        self._free[group] -= users
        heapq.heappush(self._returns, (back_at, group, users))
