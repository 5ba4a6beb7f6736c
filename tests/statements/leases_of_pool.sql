-- GET /capacity: a page of the leases of one pool since then, the newest first.
-- Walks the index of the fences, over the leases of all pools.

SELECT fence, coalesce(purpose, 'test') AS purpose, user_ids,
       extract(epoch FROM coalesce(requested_at, acquired_at))::float8 AS requested_at,
       extract(epoch FROM acquired_at)::float8 AS acquired_at,
       extract(epoch FROM least(ended_at, expires_at, clock_timestamp()))::float8 AS ended_at,
       ended_by, coalesce(l.labels || coalesce(l.choices, '{}'), '{}')::text AS labels, coalesce(priority, 0) AS priority,
       coalesce(purpose = 'chore', false) AND EXISTS (
           SELECT FROM lease_users AS lu
           WHERE lu.user_id = l.user_ids[1] AND lu.fence = l.fence AND 'clean' = ANY (lu.due)
       ) AS is_cleaning
FROM leases AS l
WHERE fence >= :first AND fence < :before AND acquired_at >= :since AND l.project_id = :project_id AND l.env = :env AND l.domain = :domain
ORDER BY fence DESC LIMIT :limit
