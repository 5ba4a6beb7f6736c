-- POST /leases without a grant: counts matching users and waiting requests, for the 409 or the wait.
-- Requests that ask at the same time share one count.

SELECT
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
        - min(c.now))::float8 AS next_free_in,
       (SELECT count(*) FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds') AS waiting
FROM users AS u, (SELECT clock_timestamp() AS now) AS c WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND u.labels @> CAST(:labels AS jsonb)
