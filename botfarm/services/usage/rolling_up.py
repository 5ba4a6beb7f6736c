"""Rolls up how pools were used, hour by hour: every minute what is new, and once what was there before."""

import asyncio
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.postgres.engine import Database
from botfarm.db.usage import rollup_queries
from botfarm.db.usage.rollup_queries import Observed, Stretch
from botfarm.domain.usage import HOUR, KEPT_DAYS, Step

BATCH = 250_000
"""Leases that are rolled up in one transaction, if they are of more than one hour."""
# An hour is closed when every transaction that began in it has ended.
SETTLED_AFTER = timedelta(minutes=5)
# Leases are out of the order of their fences by moments, unless the clock was stepped.
OUT_OF_ORDER = timedelta(minutes=10)
# Up to so many hours are rolled up to the present at once.
RECENT = 3 * HOUR
# A step of the clock back opens closed hours again, up to so many. Of a day and more, leases may be pruned.
KNOWN_HOURS = 12
# Users in service are counted every minute. A count holds for no longer than this, because what was in a longer gap
# is not known.
LONGEST_GAP = timedelta(seconds=150)


class Rollups:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def roll_up(self, stop: asyncio.Event) -> int:
        """Rolls up everything to the present, or until `stop` is set. Returns the number of transactions.

        One worker at a time does so; others leave it to that one. A crash loses only the transaction under way, which
        the next run repeats from the same leases.
        """
        done, is_current = 0, False
        while not is_current and not stop.is_set():
            async with self._database.transaction() as session:
                if not await rollup_queries.try_lock(session):
                    break
                is_current = await _roll_up_next(session)
            done += 1
        return done

    async def prune(self) -> int:
        """Deletes rollups older than 400 days. Returns their number."""
        async with self._database.transaction() as session:
            return await rollup_queries.prune_rollups(session, days=KEPT_DAYS)


async def _roll_up_next(session: AsyncSession) -> bool:
    """Rolls up the next hours. Returns whether they reach the present."""
    start = await rollup_queries.start(session)
    since = start.hour or _hour_of(max(await _first_time(session, start.now), start.now - _kept()))
    is_current = since + RECENT > start.now
    if is_current:
        until = max(_hour_of(start.now), since, start.last_hour or since) + HOUR
        stretch = Stretch(since, until, start.now, start.first_fence, start.carried)
        settled = max(since, _hour_of(start.now - SETTLED_AFTER))
    else:
        until = settled = await _end_of_batch(session, since, start.now, start.first_fence)
        beyond = await rollup_queries.fence_beyond(
            session, first_fence=start.first_fence, since=until + OUT_OF_ORDER
        )
        stretch = Stretch(since, until, start.now, start.first_fence, start.carried, beyond)
    closing = settled if start.hour is None or settled > since else None
    await rollup_queries.roll_up(session, stretch, closing=closing, known=KNOWN_HOURS)
    if is_current:
        await _observe(session, start.now)
    return is_current


async def _first_time(session: AsyncSession, now: datetime) -> datetime:
    return min(await rollup_queries.first_time(session) or now, now)


async def _end_of_batch(session: AsyncSession, since: datetime, now: datetime, first_fence: int) -> datetime:
    """The end of the hours that are rolled up at once, at least one: long settled, and with few leases."""
    until = _hour_of(now - SETTLED_AFTER)
    full = await rollup_queries.time_after_batch(session, first_fence=first_fence, batch=BATCH)
    if full is not None:
        until = min(until, _hour_of(full - OUT_OF_ORDER))
    return max(until, since + HOUR)


async def _observe(session: AsyncSession, now: datetime) -> None:
    this_hour = _hour_of(now)
    last = await rollup_queries.last_observed(session, since=this_hour - HOUR, until=this_hour)
    if observed := observed_parts(last, now):
        await rollup_queries.observe(session, observed)


def observed_parts(last: datetime | None, now: datetime) -> list[Observed]:
    """The parts of hours for which a count at `now` holds: back to the last one, unless that was too long ago.

    Nothing while a clock that was stepped back repeats a time that is observed already.
    """
    this_hour = _hour_of(now)
    if last is None or now - last > LONGEST_GAP:
        return [Observed(this_hour, now, 0)]
    if now <= last:
        return []
    if last >= this_hour:
        return [Observed(this_hour, now, (now - last).total_seconds())]
    return [
        Observed(this_hour - HOUR, this_hour, (this_hour - last).total_seconds()),
        Observed(this_hour, now, (now - this_hour).total_seconds()),
    ]


def _hour_of(moment: datetime) -> datetime:
    return Step.HOUR.floor(moment)


def _kept() -> timedelta:
    return timedelta(days=KEPT_DAYS)
