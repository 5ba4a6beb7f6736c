-- The worker's job `reap`: closes expired leases and frees the users whose last lease they are.
-- Skips leases that another statement has locked; the next turn finds them.

WITH lease AS MATERIALIZED (
    SELECT id, fence, user_ids, project_id, env, domain, purpose, acquired_at, expires_at, ttl_seconds
    FROM leases
    WHERE leases.ended_at IS NULL
      AND leases.expires_at <= (SELECT least(clock_timestamp(), CAST(:latest AS timestamptz))) AND NOT (coalesce(leases.purpose = 'chore', false)
OR EXISTS (SELECT FROM projects WHERE projects.id = leases.project_id AND projects.count_expired))
    ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
),
locked AS MATERIALIZED (
    SELECT users.id, lease.ttl_seconds, coalesce(lease.purpose, 'test') AS purpose
    FROM lease, unnest(lease.user_ids) AS of_lease (id), users
    WHERE users.id = of_lease.id AND users.lease_id = lease.id
    ORDER BY users.id FOR UPDATE OF users
),
closed AS (
    UPDATE leases SET ended_at = leases.expires_at, ended_by = 'expired'
    FROM lease WHERE leases.id = lease.id
),
j AS MATERIALIZED (
    SELECT locked.*, clock_timestamp() AS now, 'lost' AS outcome, CAST(NULL AS text) AS reason,
           CAST(NULL AS text[]) AS due
    FROM locked
),
cleared AS (
    UPDATE users AS u SET locktime = NULL, expires_at = NULL, available_at = least(
        u.available_at + make_interval(secs => CAST(:step AS float8)),
        greatest(u.available_at, j.now + make_interval(secs => j.ttl_seconds + p.lock_delay))),
status =
CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN 'dirty'
     WHEN j.purpose = 'chore' THEN u.status
     WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
     ELSE u.status END,
status_since = CASE
CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN 'dirty'
     WHEN j.purpose = 'chore' THEN u.status
     WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
     ELSE u.status END WHEN u.status THEN u.status_since WHEN 'active' THEN NULL ELSE j.now END,
status_by = CASE
CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN 'dirty'
     WHEN j.purpose = 'chore' THEN u.status
     WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
     ELSE u.status END WHEN u.status THEN u.status_by WHEN 'active' THEN NULL ELSE 'policy' END,
status_reason = CASE
CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN 'dirty'
     WHEN j.purpose = 'chore' THEN u.status
     WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
     ELSE u.status END WHEN u.status THEN u.status_reason END,
status_until = CASE
CASE WHEN u.status IN ('quarantined', 'retired') OR j.outcome IS NULL THEN u.status
     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN CASE WHEN u.pending_password IS NULL THEN 'active' ELSE 'dirty' END
     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN 'dirty'
     WHEN j.purpose = 'chore' THEN u.status
     WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (p.cleaning = 'on_dirty' AND j.outcome = 'dirty') THEN 'dirty'
     ELSE u.status END WHEN u.status THEN u.status_until END,
failures = CASE WHEN j.outcome = 'ok' THEN 0
                WHEN (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)) OR (j.outcome = 'lost' AND j.purpose <> 'chore' AND p.count_expired)
                THEN u.failures + 1 ELSE u.failures END,
failed_chores = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN 0
                     WHEN (j.purpose = 'chore' AND (j.outcome IN ('dirty', 'lost') OR (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)))) THEN u.failed_chores + 1 ELSE u.failed_chores END,
health = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN 'ok'
              WHEN j.purpose = 'chore' AND (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)) THEN 'failing'
              WHEN j.purpose = 'chore' AND j.outcome = 'broken' AND j.reason = 'environment'
              THEN 'unreachable' ELSE u.health END,
health_reason = CASE WHEN j.purpose = 'chore' AND (j.outcome = 'broken' AND coalesce(j.reason NOT IN ('environment', 'rate_limited'), true)) THEN coalesce(j.reason, 'other')
                     WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN NULL ELSE u.health_reason END,
checked_at = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') OR (j.purpose = 'chore' AND j.outcome = 'broken'
                       AND j.reason IS DISTINCT FROM 'rate_limited') THEN j.now ELSE u.checked_at END,
healthy_at = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN j.now ELSE u.healthy_at END,
must_rotate = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') THEN false
                   WHEN j.purpose <> 'chore' AND j.outcome IS NOT NULL THEN u.must_rotate OR p.rotate_on_release
                   ELSE u.must_rotate END,
rotated_at = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') AND 'rotate' = ANY (j.due) AND u.pending_password IS NULL
                  THEN j.now ELSE u.rotated_at END,
session_expires_at = CASE WHEN (j.purpose = 'chore' AND j.outcome = 'ok') AND 'session' = ANY (j.due)
                               AND u.session_expires_at - make_interval(secs => p.session_refresh) <= j.now
                          THEN NULL ELSE u.session_expires_at END
    FROM j, projects AS p WHERE u.id = j.id AND p.id = u.project_id
)
SELECT lease.id, lease.project_id, lease.env, lease.domain, lease.user_ids,
       coalesce(lease.purpose, 'test') AS purpose,
       coalesce(p.name, lease.project_id::text) AS project_name,
       extract(epoch FROM lease.expires_at - lease.acquired_at)::float8 AS held_for
FROM lease LEFT JOIN projects AS p ON p.id = lease.project_id
