"""Finds the size of a pool that keeps a goal on the worst of the recorded days."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isinf

from botfarm.domain.capacity import SizeReplay, WaitGoal
from botfarm.services.usage.erlang import erlang_c
from botfarm.services.usage.replay import Request, Users, replay

DAY = 86_400.0
# The largest size that is tried, as a multiple of the peak demand. A pool as large as the peak serves every
# request at once, unless its labels are rare.
LARGEST = 64
# Sizes in the table on either side of the needed one.
AROUND = 3


@dataclass(frozen=True, slots=True)
class Sizing:
    needed: int | None
    """Null when no size keeps the goal."""
    worst_day: float
    """When it starts."""
    sizes: Sequence[SizeReplay]
    erlang_c: int
    rest_costs: int | None


def size_pool(requests: Sequence[Request], users: Users, goal: WaitGoal, *, until: float) -> Sizing:
    """Replays the days, which start at multiples of `DAY`, in pools of other sizes.

    `requests` are in the order of their arrival, with one of a test at least. `users` are those in service,
    one at least. `until` is the end of the record.
    """
    days = split_into_days(requests)
    needed, worst = _search(days, users, goal, resting=True)
    has_rest = any(request.out > request.hold for request in requests)
    without_rest = _search(days, users, goal, resting=False)[0] if has_rest else needed
    return Sizing(
        needed=needed,
        worst_day=worst.start,
        sizes=[worst.seen_in(size, users, goal) for size in _table(needed, sum(users.values()))],
        erlang_c=worst.by_formula(goal, until=until),
        rest_costs=None if needed is None or without_rest is None else max(0, needed - without_rest),
    )


def scaled(users: Users, size: int) -> Users:
    """A pool of `size` users: each group of equal users keeps its share, and one user while there are enough."""
    groups = sorted(users, key=lambda matches: (-users[matches], sorted(matches)))[:size]
    total = sum(users[matches] for matches in groups)
    counts = {matches: size * users[matches] // total for matches in groups}
    by_remainder = sorted(groups, key=lambda matches: -(size * users[matches] % total))
    for matches in by_remainder[: size - sum(counts.values())]:
        counts[matches] += 1
    for matches in groups:
        if counts[matches] == 0:
            counts[max(groups, key=lambda each: counts[each])] -= 1
            counts[matches] = 1
    return counts


class Day:
    """The requests of one day, behind those that still hold users when it starts."""

    def __init__(self, start: float, requests: Sequence[Request], *, carried: int) -> None:
        """The first `carried` requests are of days before."""
        self.start = start
        self.requests = requests
        self.measured = [
            number for number, request in enumerate(requests) if number >= carried and request.is_test
        ]

    @property
    def load(self) -> float:
        """Seconds for which the day's tests keep users, all together."""
        return sum(self.requests[number].out * self.requests[number].count for number in self.measured)

    def waits_in(self, size: int, users: Users, *, resting: bool = True) -> list[float]:
        """Sorted, in seconds; `math.inf` where the users would never suffice."""
        waits = replay(self.requests, scaled(users, size), resting=resting)
        return sorted(waits[number] for number in self.measured)

    def keeps(self, goal: WaitGoal, size: int, users: Users, *, resting: bool) -> bool:
        if size == 0:
            return False
        return _quantile(self.waits_in(size, users, resting=resting), goal.quantile) <= goal.seconds

    def seen_in(self, size: int, users: Users, goal: WaitGoal) -> SizeReplay:
        waits = self.waits_in(size, users)
        p50, p95, p99 = (_finite(_quantile(waits, share)) for share in (0.5, 0.95, 0.99))
        over = sum(wait > goal.seconds for wait in waits)
        return SizeReplay(size, p50, p95, p99, round(over / len(waits), 4))

    def by_formula(self, goal: WaitGoal, *, until: float) -> int:
        uses = sum(self.requests[number].count for number in self.measured)
        seconds = max(1.0, min(DAY, until - self.start))
        return erlang_c(
            load=self.load / seconds,
            service=self.load / uses,
            goal=goal.seconds,
            quantile=goal.quantile,
        )


def split_into_days(requests: Sequence[Request]) -> list[Day]:
    """The days with requests of tests, the busiest first."""
    by_day = defaultdict[float, list[Request]](list)
    for request in requests:
        by_day[request.arrival // DAY * DAY].append(request)
    days, carried = list[Day](), list[Request]()
    for start, of_day in by_day.items():
        carried = [request for request in carried if request.arrival + request.out > start]
        days.append(Day(start, [*carried, *of_day], carried=len(carried)))
        carried += of_day
    return sorted((day for day in days if day.measured), key=lambda day: (-day.load, day.start))


def _search(days: Sequence[Day], users: Users, goal: WaitGoal, *, resting: bool) -> tuple[int | None, Day]:
    """The size that keeps the goal on each of the days, and the day on which one user less does not.

    Where requests ask for labels, more users can make a wait longer. So a size that was raised for one day is
    tried on all days again.
    """
    size, worst, unsure = 0, days[0], list(days)
    while unsure:
        day = unsure.pop(0)
        if day.keeps(goal, size, users, resting=resting):
            continue
        more = _smallest_above(size, day, users, goal, resting=resting)
        if more is None:
            return None, day
        size, worst, unsure = more, day, [other for other in days if other is not day]
    return size, worst


def _smallest_above(failing: int, day: Day, users: Users, goal: WaitGoal, *, resting: bool) -> int | None:
    """A size that keeps the goal where one user less does not. Null if none was found below a limit."""
    peak = max(1, _peak(day.requests))
    keeping = max(failing + 1, peak)
    while not day.keeps(goal, keeping, users, resting=resting):
        failing, keeping = keeping, 2 * keeping
        if keeping > LARGEST * max(peak, sum(users.values())):
            return None
    while keeping - failing > 1:
        middle = (failing + keeping) // 2
        if day.keeps(goal, middle, users, resting=resting):
            keeping = middle
        else:
            failing = middle
    return keeping


def _peak(requests: Sequence[Request]) -> int:
    """The most users in use at one moment, if no request ever waited."""
    changes = [(request.arrival, request.count) for request in requests]
    changes += [(request.arrival + request.out, -request.count) for request in requests]
    used = peak = 0
    for _, change in sorted(changes):
        used += change
        peak = max(peak, used)
    return peak


def _table(needed: int | None, in_service: int) -> list[int]:
    if needed is None:
        return [in_service]
    step = max(1, needed // 20)
    around = {needed + step * steps for steps in range(-AROUND, AROUND + 1)}
    return sorted(size for size in around | {in_service} if size > 0)


def _quantile(waits: Sequence[float], share: float) -> float:
    """The shortest time that the share of the sorted waits does not exceed."""
    return waits[max(0, ceil(share * len(waits) - 1e-9) - 1)]


def _finite(wait: float) -> float | None:
    return None if isinf(wait) else round(wait, 3)
