-- GET /pools, and the worker's job `gauges`.
-- Counts every pool of the scope at one moment.

WITH lines AS (
    SELECT t.project_id, t.env, t.domain, count(*) AS waiting,
           extract(epoch FROM clock_timestamp() - min(t.arrived_at))::float8 AS oldest_wait
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' GROUP BY t.project_id, t.env, t.domain
),
pools AS (
    SELECT p.name AS project_name, u.project_id, u.env, u.domain,
count(*) AS total,
count(*) FILTER (WHERE
CASE WHEN u.status = 'quarantined' THEN 'quarantined'
     WHEN u.locktime IS NOT NULL AND u.expires_at > c.now THEN 'leased'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'free') AS free,
count(*) FILTER (WHERE
CASE WHEN u.status = 'quarantined' THEN 'quarantined'
     WHEN u.locktime IS NOT NULL AND u.expires_at > c.now THEN 'leased'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'leased') AS leased,
count(*) FILTER (WHERE
CASE WHEN u.status = 'quarantined' THEN 'quarantined'
     WHEN u.locktime IS NOT NULL AND u.expires_at > c.now THEN 'leased'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'resting') AS resting,
count(*) FILTER (WHERE
CASE WHEN u.status = 'quarantined' THEN 'quarantined'
     WHEN u.locktime IS NOT NULL AND u.expires_at > c.now THEN 'leased'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'quarantined') AS quarantined,
extract(epoch FROM min(u.available_at) FILTER (WHERE u.status = 'active' AND u.available_at > c.now)
        - min(c.now))::float8 AS next_free_in
    FROM users AS u JOIN projects AS p ON p.id = u.project_id, (SELECT clock_timestamp() AS now) AS c
    WHERE (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[])))
    GROUP BY p.name, u.project_id, u.env, u.domain
)
SELECT pools.*, coalesce(lines.waiting, 0) AS waiting, lines.oldest_wait
FROM pools LEFT JOIN lines USING (project_id, env, domain)
ORDER BY project_name, env, domain
