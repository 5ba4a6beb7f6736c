-- POST /users/{user_id}/restore and POST /users/bulk: puts users back into service.
-- Skips active and retired users.

WITH chosen AS MATERIALIZED (
    SELECT u.id, u.status, u.status_until FROM users AS u
    WHERE u.id = ANY (CAST(:ids AS uuid[])) AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[]))) ORDER BY u.id FOR UPDATE
),
c AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM chosen) > 0)
UPDATE users AS u SET
status =
CASE WHEN u.pending_password IS NOT NULL OR coalesce(CAST(:clean AS boolean), (p.cleaning = 'required' OR p.rotate_on_release)) THEN 'dirty'
     ELSE 'active' END, status_reason = NULL, status_until = NULL,
status_since = CASE
CASE WHEN u.pending_password IS NOT NULL OR coalesce(CAST(:clean AS boolean), (p.cleaning = 'required' OR p.rotate_on_release)) THEN 'dirty'
     ELSE 'active' END WHEN 'dirty' THEN c.now END,
status_by = CASE
CASE WHEN u.pending_password IS NOT NULL OR coalesce(CAST(:clean AS boolean), (p.cleaning = 'required' OR p.rotate_on_release)) THEN 'dirty'
     ELSE 'active' END WHEN 'dirty' THEN :by END,
failures = 0, failed_chores = 0, health_reason = NULL,
health = CASE u.health WHEN 'failing' THEN 'unknown' ELSE u.health END
FROM chosen, c, projects AS p WHERE u.id = chosen.id AND p.id = u.project_id AND u.status IN ('dirty', 'quarantined')
RETURNING u.id, u.project_id, u.env, u.domain, p.name AS project_name,
chosen.status = u.status AND u.status_reason IS NOT NULL AND (chosen.status_until > c.now) IS NOT FALSE AS is_replaced
