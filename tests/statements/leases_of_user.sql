-- GET /users/{user_id}/history: the leases of one user, the newest first.
-- Events of the audit are read by another statement, and both are merged.

SELECT l.id, l.fence, l.operation, coalesce(l.purpose, 'test') AS purpose, l.principal, l.owner, l.metadata,
       l.acquired_at, l.expires_at,
       coalesce(l.ended_at, CASE WHEN l.expires_at <= clock_timestamp() THEN l.expires_at END) AS ended_at,
       coalesce(l.ended_by, CASE WHEN l.expires_at <= clock_timestamp() THEN 'expired' END) AS ended_by,
       coalesce(lu.outcome, l.outcome) AS outcome,
       CASE WHEN lu.outcome IS NULL THEN l.reason ELSE lu.reason END AS reason,
       CASE WHEN lu.outcome IS NULL THEN l.note ELSE lu.note END AS note
FROM lease_users AS lu JOIN leases AS l ON l.fence = lu.fence
WHERE lu.user_id = :user_id AND lu.fence < :before AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR l.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR l.env = ANY (CAST(:scope_envs AS text[])))
ORDER BY lu.fence DESC LIMIT :limit
