-- GET /leases/waiting: the live tickets of the scope.
-- Ordered pool by pool, in the order in which they are served.

SELECT t.id, t.project_id, t.env, t.domain, t.labels, t.purpose, t.count AS users, t.priority,
       t.principal, t.owner, t.arrived_at,
       row_number() OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose ORDER BY t.rank, t.id) AS place,
       extract(epoch FROM c.now - t.arrived_at)::float8 AS waited,
       extract(epoch FROM t.deadline - c.now)::float8 AS ends_in
FROM tickets AS t JOIN replicas AS r ON r.id = t.replica, (SELECT clock_timestamp() AS now) AS c
WHERE t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR t.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR t.env = ANY (CAST(:scope_envs AS text[])))
  AND (CAST(:project_id AS uuid) IS NULL OR t.project_id = :project_id)
  AND (CAST(:env AS text) IS NULL OR t.env = :env)
  AND (CAST(:domain AS text) IS NULL OR t.domain = :domain)
ORDER BY t.project_id, t.env, t.domain, t.purpose DESC, t.rank, t.id
