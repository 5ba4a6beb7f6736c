-- GET /pools, and the worker's job `gauges`.
-- Counts every pool of the scope at one moment.

WITH lines AS (
    SELECT t.project_id, t.env, t.domain, count(*) AS waiting,
           extract(epoch FROM clock_timestamp() - min(t.arrived_at))::float8 AS oldest_wait
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' GROUP BY t.project_id, t.env, t.domain
),
pools AS (
    SELECT p.name AS project_name, u.project_id, u.env, u.domain,
count(*) FILTER (WHERE u.status <> 'retired') AS total,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'free') AS free,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'leased') AS leased,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'resting') AS resting,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'dirty') AS dirty,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'chore') AS chore,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'held') AS held,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'quarantined') AS quarantined,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'retired') AS retired,
extract(epoch FROM min(
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (p.cleaning = 'required' OR p.rotate_on_release) THEN greatest(u.available_at, u.status_until)
     END) FILTER (WHERE
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (p.cleaning = 'required' OR p.rotate_on_release) THEN greatest(u.available_at, u.status_until)
     END > c.now) - min(c.now))::float8 AS next_free_in,
count(*) FILTER (WHERE u.health = 'unknown' AND u.status <> 'retired') AS health_unknown, count(*) FILTER (WHERE u.health = 'ok' AND u.status <> 'retired') AS health_ok, count(*) FILTER (WHERE u.health = 'failing' AND u.status <> 'retired') AS health_failing, count(*) FILTER (WHERE u.health = 'unreachable' AND u.status <> 'retired') AS health_unreachable,
extract(epoch FROM min(c.now) - min(coalesce(u.status_since, u.expires_at)) FILTER (
    WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
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
     ELSE 'free' END = 'dirty'))::float8 AS oldest_dirty
    FROM users AS u JOIN projects AS p ON p.id = u.project_id, (SELECT clock_timestamp() AS now) AS c
    WHERE (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[])))
    GROUP BY p.name, u.project_id, u.env, u.domain
)
SELECT pools.*, coalesce(lines.waiting, 0) AS waiting, lines.oldest_wait
FROM pools LEFT JOIN lines USING (project_id, env, domain)
ORDER BY project_name, env, domain
