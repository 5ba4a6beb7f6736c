-- GET /pools, and the worker's job `gauges`.
-- Counts every pool of the scope at one moment.

WITH lines AS (
    SELECT t.project_id, t.env, t.domain, count(*) AS waiting,
           min(t.arrived_at) AS waiting_since,
           extract(epoch FROM clock_timestamp() - min(t.arrived_at))::float8 AS oldest_wait
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' GROUP BY t.project_id, t.env, t.domain
),
pools AS (
    SELECT project_name, project_id, env, domain,
count(*) FILTER (WHERE state <> 'retired') AS total,
count(*) FILTER (WHERE state = 'free') AS free,
count(*) FILTER (WHERE state = 'leased') AS leased,
count(*) FILTER (WHERE state = 'resting') AS resting,
count(*) FILTER (WHERE state = 'dirty') AS dirty,
count(*) FILTER (WHERE state = 'chore') AS chore,
count(*) FILTER (WHERE state = 'held') AS held,
count(*) FILTER (WHERE state = 'quarantined') AS quarantined,
count(*) FILTER (WHERE state = 'retired') AS retired,
extract(epoch FROM min(free_at) FILTER (WHERE free_at > now) - min(now))::float8 AS next_free_in,
count(*) FILTER (WHERE health = 'unknown' AND state <> 'retired') AS health_unknown, count(*) FILTER (WHERE health = 'ok' AND state <> 'retired') AS health_ok, count(*) FILTER (WHERE health = 'failing' AND state <> 'retired') AS health_failing, count(*) FILTER (WHERE health = 'unreachable' AND state <> 'retired') AS health_unreachable,
extract(epoch FROM min(now) - min(state_since) FILTER (WHERE state = 'dirty'))::float8 AS oldest_dirty
    FROM (
SELECT u.project_id, u.env, u.domain, u.health, p.name AS project_name, c.now,
CASE WHEN u.status = 'active' AND u.locktime IS NULL THEN
          CASE WHEN u.available_at > c.now THEN 'resting' ELSE 'free' END
     WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END AS state,
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (p.cleaning = 'required' OR p.rotate_on_release) THEN greatest(u.available_at, u.status_until)
     END AS free_at,
       coalesce(u.status_since, u.expires_at) AS state_since FROM users AS u JOIN projects AS p ON p.id = u.project_id, (SELECT clock_timestamp() AS now) AS c
          WHERE (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[]))) OFFSET 0) AS seen
    GROUP BY project_name, project_id, env, domain
)
SELECT pools.*, coalesce(lines.waiting, 0) AS waiting, lines.waiting_since, lines.oldest_wait
FROM pools LEFT JOIN lines USING (project_id, env, domain)
ORDER BY project_name, env, domain
