-- After a release, a force or the reaper, in its transaction and under the lock of the pool.
-- Quarantines users that have failed too often, within the share of the pool and the hour.

WITH chosen AS MATERIALIZED (
    SELECT u.id,
           CASE WHEN u.health = 'failing' AND u.health_reason IN ('credential_rejected', 'locked_out') THEN u.health_reason
                WHEN p.quarantine_after > 0 AND u.failures >= p.quarantine_after
                THEN coalesce(judged.reason, 'other')
                WHEN u.failed_chores >= p.clean_attempts THEN 'cleaning_failed' END AS reason
    FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS judged (id, reason)
    JOIN users AS u ON u.id = judged.id JOIN projects AS p ON p.id = u.project_id
    WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND u.status IN ('active', 'dirty')
    ORDER BY u.id FOR UPDATE OF u
),
c AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(reason) FROM chosen) > 0),
room AS MATERIALIZED (
    SELECT greatest(1, floor(max(p.quarantine_share) * count(*) FILTER (
               WHERE u.status IN ('active', 'dirty') OR u.quarantined_by_policy_at > c.now - interval '1 hour')))
           - count(*) FILTER (WHERE u.quarantined_by_policy_at > c.now - interval '1 hour') AS users
    FROM users AS u JOIN projects AS p ON p.id = u.project_id, c WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain
),
decided AS MATERIALIZED (
    SELECT chosen.id, chosen.reason, row_number() OVER (ORDER BY chosen.id) > room.users AS is_capped
    FROM chosen, room WHERE chosen.reason IS NOT NULL
),
spared AS (
    UPDATE users AS u SET failed_chores = least(u.failed_chores, p.clean_attempts - 1)
    FROM decided, projects AS p WHERE u.id = decided.id AND decided.is_capped AND p.id = u.project_id
),
quarantined AS (
    UPDATE users AS u SET status = 'quarantined', status_reason = decided.reason, status_by = 'policy',
           status_since = c.now, status_until = NULL, quarantined_by_policy_at = c.now
    FROM decided, c WHERE u.id = decided.id AND NOT decided.is_capped
)
SELECT id, reason, is_capped FROM decided ORDER BY id
