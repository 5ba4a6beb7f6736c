-- POST /leases without a grant: counts matching users and waiting requests, for the 409 or the wait.
-- Requests that ask at the same time share one count.

SELECT
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
       (SELECT count(*) FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND true) AS waiting,
       (SELECT count(t.user_id) FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND true) AS waiting_for_one
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
      WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND u.labels @> CAST(:labels AS jsonb) AND (CAST(:choices AS jsonb) IS NULL OR NOT EXISTS (
          SELECT FROM jsonb_each(CAST(:choices AS jsonb)) AS choice
          WHERE CASE WHEN choice.value = 'null' THEN u.labels ? choice.key
                     ELSE (choice.value @> (u.labels -> choice.key)) IS NOT TRUE END)) OFFSET 0) AS seen
