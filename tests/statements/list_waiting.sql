-- GET /leases/waiting: the live tickets of the scope.
-- Ordered pool by pool, in the order in which they are served.

WITH waiting AS (
    SELECT t.id, t.project_id, t.env, t.domain, t.labels || coalesce(t.choices, '{}') AS labels, t.user_id, t.purpose,
           t.count AS users, t.priority,
           t.principal, t.owner, t.arrived_at, t.rank,
           row_number() OVER line AS place,
           sum(t.count) FILTER (WHERE t.user_id IS NULL) OVER line AS users_until_served,
           extract(epoch FROM c.now - t.arrived_at)::float8 AS waited,
           extract(epoch FROM t.deadline - c.now)::float8 AS ends_in
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica, (SELECT clock_timestamp() AS now) AS c
    WHERE t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR t.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR t.env = ANY (CAST(:scope_envs AS text[])))
      AND (CAST(:project_id AS uuid) IS NULL OR t.project_id = :project_id)
      AND (CAST(:env AS text) IS NULL OR t.env = :env)
      AND (CAST(:domain AS text) IS NULL OR t.domain = :domain)
    WINDOW line AS (PARTITION BY t.project_id, t.env, t.domain, t.purpose ORDER BY t.rank, t.id)
),
pools AS (SELECT DISTINCT project_id, env, domain, purpose FROM waiting WHERE purpose = 'test'),
-- By Little's law: so many users come back in a second.
pace AS (
    SELECT pools.*, busy.users / nullif(recent.held, 0) AS users_a_second
    FROM pools,
         LATERAL (
             SELECT sum(cardinality(l.user_ids))::float8 AS users FROM leases AS l
             WHERE l.ended_at IS NULL AND l.purpose = 'test'
               AND (l.project_id, l.env, l.domain) = (pools.project_id, pools.env, pools.domain)
         ) AS busy,
         LATERAL (
             SELECT avg(extract(epoch FROM newest.ended_at - newest.acquired_at))::float8 AS held FROM (
                 SELECT l.ended_at, l.acquired_at FROM leases AS l
                 WHERE l.fence > (SELECT max(fence) FROM leases) - 20000
                   AND l.ended_at IS NOT NULL AND l.purpose = 'test'
                   AND (l.project_id, l.env, l.domain) = (pools.project_id, pools.env, pools.domain)
                 ORDER BY l.fence DESC LIMIT 100
             ) AS newest
         ) AS recent
)
SELECT waiting.*, u.login,
       CASE WHEN user_id IS NULL THEN users_until_served / nullif(pace.users_a_second, 0) END AS expected_in
FROM waiting LEFT JOIN pace USING (project_id, env, domain, purpose) LEFT JOIN users AS u ON u.id = user_id
ORDER BY waiting.project_id, waiting.env, waiting.domain, purpose DESC, rank, waiting.id
