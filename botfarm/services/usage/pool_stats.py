"""How pools were used: requests, waits, utilisation and ends, by the hour or the day."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from botfarm.db.postgres.engine import Database
from botfarm.db.usage import pool_stats_queries
from botfarm.domain.access import Scope
from botfarm.domain.pools import Pool
from botfarm.domain.usage import (
    HOUR,
    REFUSALS,
    PoolHistory,
    PoolStatsFilter,
    Step,
    UsageFigures,
    UsageStep,
    Waits,
    Window,
)
from botfarm.errors import FieldError, InvalidRequestError

USUAL = {Step.HOUR: timedelta(days=1), Step.DAY: timedelta(days=14)}
"""The window when none is asked for."""
MAX_STEPS = 1_000
"""Of one pool."""
MAX_ALL_STEPS = 5_000
"""Of all pools of one answer, which is then some megabytes, made while other requests wait."""
RECENT_HOURS = 24


class PoolStats:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def recent_waits(self, scope: Scope) -> dict[Pool, list[float | None]]:
        """The wait that 95 % of the granted requests did not exceed, in each of the last 24 hours.

        The oldest hour is first, the hour under way last. None for an hour without grants. Pools that were not
        used are missing. One query for all pools.
        """
        async with self._database.autocommit() as session:
            this_hour = Step.HOUR.floor(await pool_stats_queries.clock(session))
            first = this_hour - (RECENT_HOURS - 1) * HOUR
            rows = list(await pool_stats_queries.recent_waits(session, scope, since=first))
        waits: dict[Pool, list[float | None]] = {}
        for pool, at, of_hour in rows:
            place = (at - first) // HOUR
            if place < RECENT_HOURS:  # a clock that was stepped back has left later hours
                waits.setdefault(pool, [None] * RECENT_HOURS)[place] = of_hour.p95
        return waits

    async def list(
        self,
        scope: Scope,
        chosen: PoolStatsFilter,
        *,
        since: datetime | None,
        until: datetime | None,
        step: Step,
    ) -> list[PoolHistory]:
        """The history of each pool of the scope that has users, or was used in the window.

        Every step of the window is there, also one without data. Raises InvalidRequestError for a window that is
        empty or has too many steps.
        """
        async with self._database.transaction() as session:
            now = await pool_stats_queries.clock(session)
            window = _window(now, since, until, step)
            pools = await pool_stats_queries.list_pools(session, scope, chosen, window)
            moments = window.moments()
            if len(pools) * len(moments) > MAX_ALL_STEPS:
                raise _bad_window(
                    "too_long",
                    f"must be later, because {len(pools)} pools have {len(moments)} steps each, and an answer has at "
                    f"most {MAX_ALL_STEPS}: name a project, an env or a domain, or take step=day",
                )
            found = await pool_stats_queries.list_steps(session, scope, chosen, window)
        histories = []
        for each in pools:
            by_moment = found.get(each.pool, {})
            steps = [by_moment.get(at) or UsageStep(at=at) for at in moments]
            histories.append(PoolHistory(each.pool, each.project_name, _sum_of(steps), steps))
        return histories


def _window(now: datetime, since: datetime | None, until: datetime | None, step: Step) -> Window:
    """The steps that the window touches. Raises InvalidRequestError."""
    end = until or now
    try:
        begin = since or end - USUAL[step]
        first, last = step.floor(begin), step.floor(end - timedelta(microseconds=1)) + step.length
    except OverflowError:
        raise InvalidRequestError(FieldError("until", "invalid", "leads out of the calendar")) from None
    if begin >= end:
        raise _bad_window("invalid", "must be before `until`, which is now when it is not given")
    if (last - first) // step.length > MAX_STEPS:
        raise _bad_window("too_long", f"must be at most {MAX_STEPS} steps of one {step} before `until`")
    return Window(first, last, step)


def _bad_window(code: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(FieldError("since", code, message))


def _sum_of(each: Sequence[UsageFigures]) -> UsageFigures:
    ends: dict[str, int] = {}
    for end, users in (item for figures in each for item in figures.ends.items()):
        ends[end] = ends.get(end, 0) + users
    return UsageFigures(
        granted=sum(figures.granted for figures in each),
        refusals={result: sum(figures.refusals.get(result, 0) for figures in each) for result in REFUSALS},
        wait=Waits(
            [sum(counts) for counts in zip(*(figures.wait.counts for figures in each), strict=True)],
            max((figures.wait.longest for figures in each), default=0.0),
        ),
        busy_seconds=sum(figures.busy_seconds for figures in each),
        in_service_seconds=sum(figures.in_service_seconds for figures in each),
        observed_busy_seconds=sum(figures.observed_busy_seconds for figures in each),
        peak_demand=max((figures.peak_demand for figures in each), default=0),
        ends=ends,
    )
