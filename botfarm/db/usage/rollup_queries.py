"""The statements that roll up how pools were used, hour by hour, from leases, refused requests and tickets.

Some hours are computed as a whole and replace the rows that are there, so nothing is counted twice. The leases that
overlap them are found without an index on times: fences rise with time, so they are those from the first fence of the
first hour on, and those that were live when it began, which are known by their fences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.user_state import CLOCK, IN_SERVICE
from botfarm.db.usage.rollup_statement import HOUR_OF, POOL, ROLL_UP

_LAST_FENCE = 2**63 - 1

# 250,000 leases are sorted and kept in some 50 MB, which would else be written to disk.
ROOM = text("SET LOCAL work_mem = '64MB'")

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('rollups', 0))")

# A clock that was stepped back runs through hours again that are closed: they are opened. Not beyond the hours whose
# live leases are still known.
OPEN_AGAIN = text(f"""
    UPDATE rollup_hours SET carried = NULL
    WHERE carried IS NOT NULL
      AND hour > greatest({HOUR_OF.format("clock_timestamp()")},
                          (SELECT min(hour) FROM rollup_hours WHERE carried IS NOT NULL))""")

START = text("""
    SELECT c.now, h.hour, h.first_fence, h.carried, (SELECT max(hour) FROM rollup_hours) AS last_hour
    FROM (SELECT clock_timestamp() AS now) AS c
    LEFT JOIN LATERAL (
        SELECT * FROM rollup_hours WHERE carried IS NOT NULL ORDER BY hour DESC LIMIT 1
    ) AS h ON true""")

# A step of the clock may have brought leases out of order, but hardly more than these.
FIRST_TIME = text("""
    SELECT least((SELECT min(acquired_at) FROM (
                      SELECT acquired_at FROM leases ORDER BY fence LIMIT 1000) AS oldest),
                 (SELECT min(minute) FROM refused_requests))""")

AFTER_BATCH = text("""
    SELECT acquired_at FROM leases WHERE fence = (
        SELECT fence FROM leases WHERE fence >= :first_fence AND fence < :beyond
        ORDER BY fence OFFSET :batch LIMIT 1)""")

FIRST_BEYOND = text("""
    SELECT fence FROM leases WHERE fence >= :first_fence AND acquired_at >= :since ORDER BY fence LIMIT 1""")

FORGET = text("""
    UPDATE rollup_hours SET carried = NULL
    WHERE carried IS NOT NULL
      AND hour < (SELECT hour FROM rollup_hours WHERE carried IS NOT NULL
                  ORDER BY hour DESC OFFSET :known - 1 LIMIT 1)""")

LAST_OBSERVED = text("SELECT max(observed_until) FROM rollup_hours WHERE hour >= :since AND hour <= :until")

OBSERVE_HOURS = text("""
    INSERT INTO rollup_hours AS h (hour, observed_until, observed_seconds)
    SELECT * FROM unnest(CAST(:hours AS timestamptz[]), CAST(:ends AS timestamptz[]), CAST(:seconds AS float8[]))
    ON CONFLICT (hour) DO UPDATE SET
        observed_until = greatest(h.observed_until, excluded.observed_until),
        observed_seconds = h.observed_seconds + excluded.observed_seconds""")

OBSERVE_POOLS = text(f"""
    WITH counted AS MATERIALIZED (
        SELECT u.project_id, u.env, u.domain, count(*) AS users
        FROM users AS u JOIN projects AS p ON p.id = u.project_id, {CLOCK}
        WHERE {IN_SERVICE} GROUP BY u.project_id, u.env, u.domain
    )
    INSERT INTO rollups AS r (hour, {POOL}, in_service_seconds)
    SELECT stretch.hour, {POOL}, users * stretch.seconds
    FROM counted, unnest(CAST(:hours AS timestamptz[]), CAST(:seconds AS float8[])) AS stretch (hour, seconds)
    ON CONFLICT (hour, {POOL}) DO UPDATE SET
        in_service_seconds = r.in_service_seconds + excluded.in_service_seconds""")

PRUNE = text("DELETE FROM rollups WHERE hour < clock_timestamp() - make_interval(days => :days)")
PRUNE_HOURS = text("DELETE FROM rollup_hours WHERE hour < clock_timestamp() - make_interval(days => :days)")


@dataclass(frozen=True, slots=True)
class Start:
    """Where rolling up goes on: the first hour that is not closed, and how its leases are found."""

    now: datetime
    hour: datetime | None
    """None before the first time."""
    first_fence: int
    carried: Sequence[int]
    last_hour: datetime | None
    """The latest that is known, in the future after a step of the clock back."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Hours that are rolled up at once, and the bounds of their leases."""

    since: datetime
    until: datetime
    now: datetime
    first_fence: int
    carried: Sequence[int]
    beyond: int = _LAST_FENCE
    """No lease from this fence on began before `until`."""

    def parameters(self) -> dict[str, object]:
        return {"first_fence": self.first_fence, "beyond": self.beyond, "carried": list(self.carried)}


@dataclass(frozen=True, slots=True)
class Observed:
    """A part of an hour for which a count of the users in service holds."""

    hour: datetime
    until: datetime
    seconds: float


async def try_lock(session: AsyncSession) -> bool:
    """Keeps other workers from rolling up until the transaction ends. False while another one does."""
    return bool(await session.scalar(TRY_LOCK))


async def start(session: AsyncSession) -> Start:
    await session.execute(OPEN_AGAIN)
    row = (await session.execute(START)).one()
    return Start(row.now, row.hour, row.first_fence or 0, row.carried or (), row.last_hour)


async def first_time(session: AsyncSession) -> datetime | None:
    """When the oldest lease or refused request was; None without any."""
    moment: datetime | None = await session.scalar(FIRST_TIME)
    return moment


async def time_after_batch(session: AsyncSession, *, first_fence: int, batch: int) -> datetime | None:
    """When the lease began that comes `batch` leases after the first; None when there are fewer."""
    parameters = {"first_fence": first_fence, "beyond": _LAST_FENCE, "batch": batch}
    moment: datetime | None = await session.scalar(AFTER_BATCH, parameters)
    return moment


async def fence_beyond(session: AsyncSession, *, first_fence: int, since: datetime) -> int:
    """The first fence from `first_fence` on whose lease began at `since` or later."""
    parameters = {"first_fence": first_fence, "since": since}
    return int(await session.scalar(FIRST_BEYOND, parameters) or _LAST_FENCE)


async def roll_up(session: AsyncSession, stretch: Stretch, *, closing: datetime | None, known: int) -> None:
    """Replaces the rollups of these hours, and closes the hours before `closing`. The seconds of users in service stay.

    Forgets which leases were live but at the last `known` times at which hours were closed.
    """
    moments = {"since": stretch.since, "until": stretch.until, "now": stretch.now}
    seconds = {f"{name}_seconds": moment.timestamp() for name, moment in moments.items()}
    closing_seconds = None if closing is None else closing.timestamp()
    await session.execute(ROOM)
    parameters = {**stretch.parameters(), **moments, **seconds, "closing_seconds": closing_seconds}
    await session.execute(ROLL_UP, parameters)
    if closing is not None:
        await session.execute(FORGET, {"known": known})


async def last_observed(session: AsyncSession, *, since: datetime, until: datetime) -> datetime | None:
    """When users in service were last counted, among these hours."""
    moment: datetime | None = await session.scalar(LAST_OBSERVED, {"since": since, "until": until})
    return moment


async def observe(session: AsyncSession, observed: Sequence[Observed]) -> None:
    """Counts the users in service of each pool, for these parts of hours."""
    parameters = {
        "hours": [each.hour for each in observed],
        "seconds": [each.seconds for each in observed],
    }
    await session.execute(OBSERVE_HOURS, {**parameters, "ends": [each.until for each in observed]})
    await session.execute(OBSERVE_POOLS, parameters)


async def prune_rollups(session: AsyncSession, *, days: int) -> int:
    """Deletes rollups of more than `days` days ago. Returns their number."""
    await session.execute(PRUNE_HOURS, {"days": days})
    return (await session.execute(PRUNE, {"days": days})).rowcount  # type: ignore[attr-defined,no-any-return]
