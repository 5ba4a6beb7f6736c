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
from botfarm.db.waiting.ticket_queries import LIVE_TICKET, TICKETS
from botfarm.domain.usage import WAIT_BOUNDS

_LAST_FENCE = 2**63 - 1

# 250,000 leases are sorted and kept in some 50 MB, which would else be written to disk.
ROOM = text("SET LOCAL work_mem = '64MB'")

_HOUR_OF = "date_trunc('hour', {0}, 'UTC')"
_POOL = "project_id, env, domain"
_SINCE, _UNTIL, _NOW, _CLOSING = (
    f"CAST(:{moment}_seconds AS float8)" for moment in ("since", "until", "now", "closing")
)
# Rows of a pool are sorted and joined by one number of 64 bits, which takes half the time.
_POOL_NUMBER = (
    "uuid_hash_extended({0}.project_id, hashtextextended({0}.env, hashtextextended({0}.domain, 0)))"
)
_COUNTS = ", ".join(
    f"coalesce(sum(requests) FILTER (WHERE bucket = {bucket}), 0)::bigint"
    for bucket in range(len(WAIT_BOUNDS) + 1)
)

TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended('rollups', 0))")

# A clock that was stepped back runs through hours again that are closed: they are opened. Not beyond the hours whose
# live leases are still known.
OPEN_AGAIN = text(f"""
    UPDATE rollup_hours SET carried = NULL
    WHERE carried IS NOT NULL
      AND hour > greatest({_HOUR_OF.format("clock_timestamp()")},
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


_LEASE_COLUMNS = f"""fence, {_POOL}, user_ids, waited, outcome, reason, ended_by, requested_at, acquired_at, ended_at,
               expires_at"""


def _leases(columns: str) -> str:
    """The leases of tests that may overlap the hours. With only one bound the planner may read all others too."""
    is_of_test = "coalesce(purpose, 'test') = 'test'"
    return f"""
        SELECT {columns} FROM leases WHERE fence >= :first_fence AND fence < :beyond AND {is_of_test}
        UNION ALL
        SELECT {columns} FROM leases WHERE fence = ANY (CAST(:carried AS bigint[])) AND {is_of_test}"""


# Times are seconds since 1970, hours are numbers. `demand` are users that were wanted from `wanted` on and held from
# `began` to `ended`. When requests of a minute were refused is known to the minute, and how long they waited on
# average. A clock that was stepped back may have ended a lease before it began. At one moment ends come before
# requests. What is said of one user is instead of what is said of all of its lease. Parts are added up instead of
# joined, and their hours are looked at last, because the planner knows nothing of their sizes. The hours before
# `closing` are closed: without a lease since then, the next one has a higher fence than all before.
ROLL_UP = text(f"""
    WITH l AS MATERIALIZED (
        SELECT fence, {_POOL_NUMBER.format("found")} AS pool, cardinality(user_ids) AS users, waited,
               ended_at IS NULL AS is_open,
               coalesce(ended_by, 'expired') AS ended_by,
               CASE ended_by WHEN 'released' THEN coalesce(outcome, 'unused') || coalesce(':' || reason, '')
                             ELSE coalesce(ended_by, 'expired') END AS how,
               date_part('epoch', least(requested_at, acquired_at)) AS wanted,
               date_part('epoch', acquired_at) AS began,
               date_part('epoch', CASE WHEN ended_at IS NOT NULL THEN ended_at
                                       WHEN expires_at <= :now THEN expires_at END) AS ended
        FROM ({_leases(_LEASE_COLUMNS)}) AS found
    ),
    said AS MATERIALIZED (
        SELECT fence, outcome || coalesce(':' || reason, '') AS how FROM lease_users
        WHERE outcome IS NOT NULL AND fence >= :first_fence AND fence < :beyond
        UNION ALL
        SELECT fence, outcome || coalesce(':' || reason, '') FROM lease_users
        WHERE outcome IS NOT NULL AND fence = ANY (CAST(:carried AS bigint[]))
    ),
    refused AS MATERIALIZED (
        SELECT {_POOL}, {_POOL_NUMBER.format("f")} AS pool, result, count, requests, waited, f.minute,
               least(date_part('epoch', f.minute) + 30, {_NOW}) AS ended
        FROM refused_requests AS f
        WHERE f.purpose = 'test' AND f.minute >= :since AND f.minute < CAST(:until AS timestamptz) + interval '10 min'
    ),
    waiting AS MATERIALIZED (
        SELECT {_POOL}, {_POOL_NUMBER.format("t")} AS pool, t.count, date_part('epoch', t.arrived_at) AS wanted
        FROM {TICKETS} WHERE t.purpose = 'test' AND {LIVE_TICKET}
    ),
    demand AS MATERIALIZED (
        SELECT pool, users, wanted, began, greatest(coalesce(ended, {_NOW}), wanted) AS ended FROM l
        UNION ALL
        SELECT pool, count * requests, ended - waited / requests, ended, ended FROM refused
        WHERE result IN ('timeout', 'gone')
        UNION ALL
        SELECT pool, count, wanted, greatest(wanted, {_NOW}), greatest(wanted, {_NOW}) FROM waiting
    ),
    spans AS (
        SELECT floor(wanted / 3600) AS hour, pool, users, began, ended FROM demand
        WHERE floor(wanted / 3600) = floor(ended / 3600)
        UNION ALL
        SELECT h.hour, pool, users, began, ended
        FROM demand, generate_series(CAST(floor(greatest(wanted, {_SINCE}) / 3600) AS bigint),
                                     CAST(ceil(least(ended, {_UNTIL}) / 3600) AS bigint) - 1) AS h (hour)
        WHERE floor(wanted / 3600) <> floor(ended / 3600)
    ),
    busy AS MATERIALIZED (
        SELECT hour, pool, sum(users * greatest(0, least(ended, hour * 3600 + 3600) - greatest(began, hour * 3600)))
                           AS seconds
        FROM spans GROUP BY hour, pool
    ),
    moments AS (
        SELECT pool, wanted AS at, users AS change FROM demand
        UNION ALL
        SELECT pool, ended, -users FROM demand
        UNION ALL
        SELECT pool, hour * 3600, 0 FROM busy
    ),
    levels AS (
        SELECT pool, at, sum(change) OVER (PARTITION BY pool ORDER BY at, change ROWS UNBOUNDED PRECEDING) AS users
        FROM moments
    ),
    peaks AS (
        SELECT floor(at / 3600) AS hour, pool, max(users) AS users
        FROM levels GROUP BY 1, pool
    ),
    grants AS (
        SELECT floor(began / 3600) AS hour, pool,
               width_bucket(waited, CAST(ARRAY[{", ".join(map(str, WAIT_BOUNDS))}] AS float8[])) AS bucket,
               count(*) AS requests, max(waited) AS longest_wait
        FROM l GROUP BY 1, pool, bucket
    ),
    ends AS (
        SELECT floor(ended / 3600) AS hour, pool, how, sum(users) AS users
        FROM (SELECT ended, pool, how, users FROM l
              UNION ALL
              SELECT l.ended, l.pool, instead.how, instead.users
              FROM said JOIN l USING (fence), LATERAL (VALUES (l.how, -1), (said.how, 1)) AS instead (how, users)
              WHERE l.ended_by = 'released') AS ended_users
        WHERE ended IS NOT NULL GROUP BY 1, pool, how HAVING sum(users) > 0
    ),
    there AS MATERIALIZED (
        SELECT date_part('epoch', r.hour) / 3600 AS hour, {_POOL}, {_POOL_NUMBER.format("r")} AS pool
        FROM rollups AS r WHERE r.hour >= :since AND r.hour < :until
    ),
    pools AS (
        SELECT pool, {_POOL}
        FROM (SELECT pool, min(fence) AS fence FROM l GROUP BY pool) AS first JOIN leases USING (fence)
        UNION SELECT pool, {_POOL} FROM refused
        UNION SELECT pool, {_POOL} FROM waiting
        UNION SELECT pool, {_POOL} FROM there
    ),
    parts (hour, pool, granted, waits, longest_wait, exhausted, timeout, gone, quota, busy_seconds, peak_demand, ends)
    AS MATERIALIZED (
        SELECT hour, pool, sum(requests), ARRAY[{_COUNTS}], max(longest_wait), 0, 0, 0, 0, 0::float8, 0,
               CAST(NULL AS jsonb)
        FROM grants GROUP BY hour, pool
        UNION ALL
        SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, 0, 0, jsonb_object_agg(how, users) FROM ends GROUP BY hour, pool
        UNION ALL
        SELECT date_part('epoch', {_HOUR_OF.format("minute")}) / 3600, pool, 0, NULL, 0,
               CASE result WHEN 'exhausted' THEN requests ELSE 0 END,
               CASE result WHEN 'timeout' THEN requests ELSE 0 END,
               CASE result WHEN 'gone' THEN requests ELSE 0 END,
               CASE result WHEN 'quota' THEN requests ELSE 0 END, 0, 0, NULL
        FROM refused
        UNION ALL
        SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, seconds, 0, NULL FROM busy
        UNION ALL
        SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, 0, users, NULL FROM peaks
        UNION ALL
        SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, 0, 0, NULL FROM there
    ),
    first AS MATERIALIZED (
        SELECT coalesce(min(fence) FILTER (WHERE began >= {_CLOSING}), max(fence) + 1, :first_fence) AS fence
        FROM l WHERE fence >= :first_fence
    ),
    closed AS (
        INSERT INTO rollup_hours (hour, first_fence, carried)
        SELECT to_timestamp({_CLOSING}), first.fence, ARRAY(
            SELECT l.fence FROM l WHERE l.fence < first.fence AND (l.is_open OR l.ended > {_CLOSING}) ORDER BY l.fence)
        FROM first WHERE {_CLOSING} IS NOT NULL
        ON CONFLICT (hour) DO UPDATE SET first_fence = excluded.first_fence, carried = excluded.carried
    )
    INSERT INTO rollups AS r (hour, {_POOL}, granted, waits, longest_wait, exhausted, timeout, gone, quota,
                              busy_seconds, peak_demand, ends)
    SELECT to_timestamp(hour * 3600), {_POOL}, sum(granted), coalesce(max(waits), '{{}}'),
           coalesce(max(longest_wait), 0), sum(exhausted), sum(timeout), sum(gone), sum(quota), sum(busy_seconds),
           max(peak_demand), coalesce((array_agg(ends) FILTER (WHERE ends IS NOT NULL))[1], '{{}}')
    FROM parts JOIN pools USING (pool) WHERE hour >= {_SINCE} / 3600 AND hour < {_UNTIL} / 3600
    GROUP BY hour, {_POOL}
    ON CONFLICT (hour, {_POOL}) DO UPDATE SET
        granted = excluded.granted, waits = excluded.waits, longest_wait = excluded.longest_wait,
        exhausted = excluded.exhausted, timeout = excluded.timeout, gone = excluded.gone, quota = excluded.quota,
        busy_seconds = excluded.busy_seconds, peak_demand = excluded.peak_demand, ends = excluded.ends
    WHERE (r.granted, r.waits, r.longest_wait, r.exhausted, r.timeout, r.gone, r.quota, r.busy_seconds,
           r.peak_demand, r.ends)
          IS DISTINCT FROM
          (excluded.granted, excluded.waits, excluded.longest_wait, excluded.exhausted, excluded.timeout,
           excluded.gone, excluded.quota, excluded.busy_seconds, excluded.peak_demand, excluded.ends)""")

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
    INSERT INTO rollups AS r (hour, {_POOL}, in_service_seconds)
    SELECT stretch.hour, {_POOL}, users * stretch.seconds
    FROM counted, unnest(CAST(:hours AS timestamptz[]), CAST(:seconds AS float8[])) AS stretch (hour, seconds)
    ON CONFLICT (hour, {_POOL}) DO UPDATE SET
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
