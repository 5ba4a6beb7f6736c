-- The worker's job `rollups`: replaces the rollups of some hours, and of the hour under way, by new ones.
-- Reads leases by their fences, and leaves the seconds of users in service. Closes settled hours for good.

WITH l AS MATERIALIZED (
    SELECT fence, uuid_hash_extended(found.project_id, hashtextextended(found.env, hashtextextended(found.domain, 0))) AS pool, cardinality(user_ids) AS users, waited,
           ended_at IS NULL AS is_open,
           coalesce(ended_by, 'expired') AS ended_by,
           CASE ended_by WHEN 'released' THEN coalesce(outcome, 'unused') || coalesce(':' || reason, '')
                         ELSE coalesce(ended_by, 'expired') END AS how,
           date_part('epoch', least(requested_at, acquired_at)) AS wanted,
           date_part('epoch', acquired_at) AS began,
           date_part('epoch', CASE WHEN ended_at IS NOT NULL THEN ended_at
                                   WHEN expires_at <= :now THEN expires_at END) AS ended
    FROM (
    SELECT fence, project_id, env, domain, user_ids, waited, outcome, reason, ended_by, requested_at, acquired_at, ended_at,
           expires_at FROM leases WHERE fence >= :first_fence AND fence < :beyond AND coalesce(purpose, 'test') = 'test'
    UNION ALL
    SELECT fence, project_id, env, domain, user_ids, waited, outcome, reason, ended_by, requested_at, acquired_at, ended_at,
           expires_at FROM leases WHERE fence = ANY (CAST(:carried AS bigint[])) AND coalesce(purpose, 'test') = 'test') AS found
),
said AS MATERIALIZED (
    SELECT fence, outcome || coalesce(':' || reason, '') AS how FROM lease_users
    WHERE outcome IS NOT NULL AND fence >= :first_fence AND fence < :beyond
    UNION ALL
    SELECT fence, outcome || coalesce(':' || reason, '') FROM lease_users
    WHERE outcome IS NOT NULL AND fence = ANY (CAST(:carried AS bigint[]))
),
refused AS MATERIALIZED (
    SELECT project_id, env, domain, uuid_hash_extended(f.project_id, hashtextextended(f.env, hashtextextended(f.domain, 0))) AS pool, result, count, requests, waited, f.minute,
           least(date_part('epoch', f.minute) + 30, CAST(:now_seconds AS float8)) AS ended
    FROM refused_requests AS f
    WHERE f.purpose = 'test' AND f.minute >= :since AND f.minute < CAST(:until AS timestamptz) + interval '10 min'
),
waiting AS MATERIALIZED (
    SELECT project_id, env, domain, uuid_hash_extended(t.project_id, hashtextextended(t.env, hashtextextended(t.domain, 0))) AS pool, t.count, date_part('epoch', t.arrived_at) AS wanted
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds'
),
demand AS MATERIALIZED (
    SELECT pool, users, wanted, began, greatest(coalesce(ended, CAST(:now_seconds AS float8)), wanted) AS ended FROM l
    UNION ALL
    SELECT pool, count * requests, ended - waited / requests, ended, ended FROM refused
    WHERE result IN ('timeout', 'gone')
    UNION ALL
    SELECT pool, count, wanted, greatest(wanted, CAST(:now_seconds AS float8)), greatest(wanted, CAST(:now_seconds AS float8)) FROM waiting
),
spans AS (
    SELECT floor(wanted / 3600) AS hour, pool, users, began, ended FROM demand
    WHERE floor(wanted / 3600) = floor(ended / 3600)
    UNION ALL
    SELECT h.hour, pool, users, began, ended
    FROM demand, generate_series(CAST(floor(greatest(wanted, CAST(:since_seconds AS float8)) / 3600) AS bigint),
                                 CAST(ceil(least(ended, CAST(:until_seconds AS float8)) / 3600) AS bigint) - 1) AS h (hour)
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
           width_bucket(waited, CAST(ARRAY[0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 240.0, 300.0, 450.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0] AS float8[])) AS bucket,
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
    SELECT date_part('epoch', r.hour) / 3600 AS hour, project_id, env, domain, uuid_hash_extended(r.project_id, hashtextextended(r.env, hashtextextended(r.domain, 0))) AS pool
    FROM rollups AS r WHERE r.hour >= :since AND r.hour < :until
),
pools AS (
    SELECT pool, project_id, env, domain
    FROM (SELECT pool, min(fence) AS fence FROM l GROUP BY pool) AS first JOIN leases USING (fence)
    UNION SELECT pool, project_id, env, domain FROM refused
    UNION SELECT pool, project_id, env, domain FROM waiting
    UNION SELECT pool, project_id, env, domain FROM there
),
parts (hour, pool, granted, waits, longest_wait, exhausted, timeout, gone, quota, busy_seconds, peak_demand, ends)
AS MATERIALIZED (
    SELECT hour, pool, sum(requests), ARRAY[coalesce(sum(requests) FILTER (WHERE bucket = 0), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 1), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 2), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 3), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 4), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 5), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 6), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 7), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 8), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 9), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 10), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 11), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 12), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 13), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 14), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 15), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 16), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 17), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 18), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 19), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 20), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 21), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 22), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 23), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 24), 0)::bigint, coalesce(sum(requests) FILTER (WHERE bucket = 25), 0)::bigint], max(longest_wait), 0, 0, 0, 0, 0::float8, 0,
           CAST(NULL AS jsonb)
    FROM grants GROUP BY hour, pool
    UNION ALL
    SELECT hour, pool, 0, NULL, 0, 0, 0, 0, 0, 0, 0, jsonb_object_agg(how, users) FROM ends GROUP BY hour, pool
    UNION ALL
    SELECT date_part('epoch', date_trunc('hour', minute, 'UTC')) / 3600, pool, 0, NULL, 0,
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
    SELECT coalesce(min(fence) FILTER (WHERE began >= CAST(:closing_seconds AS float8)), max(fence) + 1, :first_fence) AS fence
    FROM l WHERE fence >= :first_fence
),
closed AS (
    INSERT INTO rollup_hours (hour, first_fence, carried)
    SELECT to_timestamp(CAST(:closing_seconds AS float8)), first.fence, ARRAY(
        SELECT l.fence FROM l WHERE l.fence < first.fence AND (l.is_open OR l.ended > CAST(:closing_seconds AS float8)) ORDER BY l.fence)
    FROM first WHERE CAST(:closing_seconds AS float8) IS NOT NULL
    ON CONFLICT (hour) DO UPDATE SET first_fence = excluded.first_fence, carried = excluded.carried
)
INSERT INTO rollups AS r (hour, project_id, env, domain, granted, waits, longest_wait, exhausted, timeout, gone, quota,
                          busy_seconds, peak_demand, ends)
SELECT to_timestamp(hour * 3600), project_id, env, domain, sum(granted), coalesce(max(waits), '{}'),
       coalesce(max(longest_wait), 0), sum(exhausted), sum(timeout), sum(gone), sum(quota), sum(busy_seconds),
       max(peak_demand), coalesce((array_agg(ends) FILTER (WHERE ends IS NOT NULL))[1], '{}')
FROM parts JOIN pools USING (pool) WHERE hour >= CAST(:since_seconds AS float8) / 3600 AND hour < CAST(:until_seconds AS float8) / 3600
GROUP BY hour, project_id, env, domain
ON CONFLICT (hour, project_id, env, domain) DO UPDATE SET
    granted = excluded.granted, waits = excluded.waits, longest_wait = excluded.longest_wait,
    exhausted = excluded.exhausted, timeout = excluded.timeout, gone = excluded.gone, quota = excluded.quota,
    busy_seconds = excluded.busy_seconds, peak_demand = excluded.peak_demand, ends = excluded.ends
WHERE (r.granted, r.waits, r.longest_wait, r.exhausted, r.timeout, r.gone, r.quota, r.busy_seconds,
       r.peak_demand, r.ends)
      IS DISTINCT FROM
      (excluded.granted, excluded.waits, excluded.longest_wait, excluded.exhausted, excluded.timeout,
       excluded.gone, excluded.quota, excluded.busy_seconds, excluded.peak_demand, excluded.ends)
