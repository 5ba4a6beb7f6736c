"""The statement that rolls up hours as a whole: the figures of all pools, from leases, refusals and tickets."""

from sqlalchemy import text

from botfarm.db.waiting.live_tickets import LIVE_TICKET, TICKETS
from botfarm.domain.usage import WAIT_BOUNDS

HOUR_OF = "date_trunc('hour', {0}, 'UTC')"
POOL = "project_id, env, domain"
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

_LEASE_COLUMNS = f"""fence, {POOL}, user_ids, waited, outcome, reason, ended_by, requested_at, acquired_at, ended_at,
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
        SELECT {POOL}, {_POOL_NUMBER.format("f")} AS pool, result, count, requests, waited, f.minute,
               least(date_part('epoch', f.minute) + 30, {_NOW}) AS ended
        FROM refused_requests AS f
        WHERE f.purpose = 'test' AND f.minute >= :since AND f.minute < CAST(:until AS timestamptz) + interval '10 min'
    ),
    waiting AS MATERIALIZED (
        SELECT {POOL}, {_POOL_NUMBER.format("t")} AS pool, t.count, date_part('epoch', t.arrived_at) AS wanted
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
        SELECT date_part('epoch', r.hour) / 3600 AS hour, {POOL}, {_POOL_NUMBER.format("r")} AS pool
        FROM rollups AS r WHERE r.hour >= :since AND r.hour < :until
    ),
    pools AS (
        SELECT pool, {POOL}
        FROM (SELECT pool, min(fence) AS fence FROM l GROUP BY pool) AS first JOIN leases USING (fence)
        UNION SELECT pool, {POOL} FROM refused
        UNION SELECT pool, {POOL} FROM waiting
        UNION SELECT pool, {POOL} FROM there
    ),
    parts (hour, pool, granted, waits, longest_wait, exhausted, timeout, gone, quota, busy_seconds, peak_demand, ends)
    AS MATERIALIZED (
        SELECT hour, pool, sum(requests), ARRAY[{_COUNTS}], max(longest_wait), 0, 0, 0, 0, 0::float8, 0,
               CAST(NULL AS jsonb)
        FROM grants GROUP BY hour, pool
        UNION ALL
        SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, 0, 0, jsonb_object_agg(how, users) FROM ends GROUP BY hour, pool
        UNION ALL
        SELECT date_part('epoch', {HOUR_OF.format("minute")}) / 3600, pool, 0, NULL, 0,
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
    INSERT INTO rollups AS r (hour, {POOL}, granted, waits, longest_wait, exhausted, timeout, gone, quota,
                              busy_seconds, peak_demand, ends)
    SELECT to_timestamp(hour * 3600), {POOL}, sum(granted), coalesce(max(waits), '{{}}'),
           coalesce(max(longest_wait), 0), sum(exhausted), sum(timeout), sum(gone), sum(quota), sum(busy_seconds),
           max(peak_demand), coalesce((array_agg(ends) FILTER (WHERE ends IS NOT NULL))[1], '{{}}')
    FROM parts JOIN pools USING (pool) WHERE hour >= {_SINCE} / 3600 AND hour < {_UNTIL} / 3600
    GROUP BY hour, {POOL}
    ON CONFLICT (hour, {POOL}) DO UPDATE SET
        granted = excluded.granted, waits = excluded.waits, longest_wait = excluded.longest_wait,
        exhausted = excluded.exhausted, timeout = excluded.timeout, gone = excluded.gone, quota = excluded.quota,
        busy_seconds = excluded.busy_seconds, peak_demand = excluded.peak_demand, ends = excluded.ends
    WHERE (r.granted, r.waits, r.longest_wait, r.exhausted, r.timeout, r.gone, r.quota, r.busy_seconds,
           r.peak_demand, r.ends)
          IS DISTINCT FROM
          (excluded.granted, excluded.waits, excluded.longest_wait, excluded.exhausted, excluded.timeout,
           excluded.gone, excluded.quota, excluded.busy_seconds, excluded.peak_demand, excluded.ends)""")
