"""Puts a pool's capacity into words, for the command line and the page alike."""

from collections.abc import Iterator
from datetime import date, datetime

from botfarm.domain.capacity import PoolCapacity, WaitGoal
from botfarm.services.usage.demand import Demand


def advice_of(capacity: PoolCapacity, goal: WaitGoal, demand: Demand, *, refused: int, was_cut: bool) -> str:
    """One sentence. `refused` are the requests that got no user."""
    begin = f"{capacity.pool.env}/{capacity.pool.domain}: {capacity.in_service} in service"
    kept = f"would keep {_percent(goal.quantile)} of waits {_within(goal)}"
    if capacity.needed is not None and capacity.worst_day is not None:
        spare = capacity.in_service - demand.peak
        unneeded = f"; {spare} of the {capacity.in_service} were never needed at once" if spare > 0 else ""
        return f"{begin}, {capacity.needed} {kept} (worst day {_day(capacity.worst_day)}){unneeded}"
    if capacity.requests:
        return f"{begin}, no number of users with these labels {kept}"
    if was_cut:
        return f"{begin}; no replay, because the last day has too many requests for one"
    if demand.unmatched:
        return f"{begin}; all requests of {_last(goal)} asked for labels that no user in service has"
    if refused:
        return f"{begin}; no replay, because no request got a user in {_last(goal)}"
    return f"{begin}; nobody asked for a user in {_last(goal)}"


def limits_of(
    capacity: PoolCapacity, goal: WaitGoal, demand: Demand, *, since: datetime, was_cut: bool
) -> list[str]:
    """What the replay does not know, a sentence each."""
    return list(_limits(capacity, goal, demand, since=since, was_cut=was_cut)) if capacity.requests else []


def _limits(
    capacity: PoolCapacity, goal: WaitGoal, demand: Demand, *, since: datetime, was_cut: bool
) -> Iterator[str]:
    yield (
        f"The answer is at most as good as {_last(goal)}: {_counted(capacity.days, 'day')} with requests, "
        f"{_counted(capacity.requests, 'request')}."
    )
    if was_cut:
        yield f"The history is too long for one replay: only the days since {_day(since.date())} are in it."
    if capacity.imputed and demand.median_hold is not None:
        yield (
            f"{_counted(capacity.imputed, 'request')} got no user: each is replayed with the pool's median "
            f"hold of {demand.median_hold:.0f} s. A caller that asked again and again counts each time."
        )
    if demand.unmatched:
        yield f"{_counted(demand.unmatched, 'request')} for labels that no user in service has: left out."
    if capacity.needed is not None and len(demand.users) > 1:
        yield (
            f"The {capacity.needed} users have the labels of the {capacity.in_service} in service, in the same shares."
        )
    yield (
        "The requests come when they came: in a smaller pool the runners would come back later than in the "
        "replay, in a larger one sooner."
    )


def _within(goal: WaitGoal) -> str:
    return f"under {goal.seconds:g} s" if goal.seconds else "at 0 s"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _last(goal: WaitGoal) -> str:
    return "the last day" if goal.days == 1 else f"the last {goal.days} days"


def _day(day: date) -> str:
    return f"{day.day} {day:%b}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
