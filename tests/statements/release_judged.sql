-- POST /leases/{lease_id}/release with any verdicts, or of a chore: under the lock of the pool.
-- Also ends a lease whose answer could not be given to its caller.

WITH wanted AS MATERIALIZED (SELECT CAST(:lease_id AS uuid) AS id, CAST(:principal AS text) AS principal,
          CAST(:outcome AS text) AS outcome, CAST(:reason AS text) AS reason, CAST(:note AS text) AS note,
          CAST(:rest AS text) AS rest),
said AS MATERIALIZED (SELECT *
   FROM unnest(CAST(:said_user_ids AS uuid[]), CAST(:said_outcomes AS text[]),
               CAST(:said_reasons AS text[]), CAST(:said_notes AS text[]))
        AS s (user_id, outcome, reason, note)),
lease AS MATERIALIZED (
    SELECT leases.id, leases.fence, leases.purpose, leases.project_id, leases.user_ids, leases.acquired_at,
           leases.expires_at, leases.ttl_seconds, leases.hold_until, leases.ended_at, leases.xmin AS row_version
    FROM wanted JOIN leases ON leases.id = wanted.id AND leases.principal = wanted.principal
    ORDER BY leases.id FOR UPDATE OF leases
),
locked AS MATERIALIZED (
    SELECT users.id, users.lease_id, users.expires_at
    FROM lease, unnest(lease.user_ids) AS of_lease (id), users
    WHERE users.id = of_lease.id AND users.lease_id = lease.id
    ORDER BY users.id FOR UPDATE OF users
),
live AS MATERIALIZED (
    SELECT lease.*, clock_timestamp() AS now FROM lease
    WHERE lease.ended_at IS NULL AND true
      AND cardinality(lease.user_ids) = (
        SELECT count(*) FROM locked
        WHERE locked.lease_id = lease.id AND locked.expires_at > clock_timestamp())
),
l AS (
    UPDATE leases SET ended_at = live.now, ended_by = :ended_by,
           outcome = nullif(wanted.outcome, 'lost'), reason = wanted.reason,
           note = coalesce(wanted.note, leases.note)
    FROM live, wanted WHERE leases.id = live.id AND wanted.id = live.id
    RETURNING leases.*
),
apart AS (
    UPDATE lease_users AS lu SET outcome = said.outcome, reason = said.reason, note = said.note
    FROM said, live
    WHERE lu.user_id = said.user_id AND lu.fence = live.fence
),
j AS MATERIALIZED (
    SELECT locked.id, live.now, live.acquired_at, coalesce(live.purpose, 'test') AS purpose, wanted.rest,
           CASE WHEN said.user_id IS NULL THEN wanted.outcome ELSE said.outcome END AS outcome,
           CASE WHEN said.user_id IS NULL THEN wanted.reason ELSE said.reason END AS reason,
           CASE WHEN said.user_id IS NULL THEN wanted.note ELSE said.note END AS note,
CASE WHEN live.purpose = 'chore' THEN (
    SELECT lu.due FROM lease_users AS lu WHERE lu.user_id = locked.id AND lu.fence = live.fence) END AS due
    FROM live JOIN wanted ON wanted.id = live.id JOIN locked ON locked.lease_id = live.id
    LEFT JOIN said ON said.user_id = locked.id
),
u AS (
    UPDATE users AS u SET locktime = NULL, expires_at = NULL,
           available_at =
CASE WHEN j.rest = 'none' THEN j.now ELSE greatest(
    j.now + make_interval(secs => CASE j.rest WHEN 'lock_delay' THEN p.lock_delay ELSE p.cooldown END),
    j.acquired_at + make_interval(secs => p.login_gap)) END,
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
    FROM j, projects AS p
    WHERE u.id = j.id AND p.id = u.project_id
    RETURNING
u.id, u.login, u.project_id, u.env, u.domain, u.lease_id, u.expires_at, u.locktime, u.labels, j.due, nullif(j.outcome, 'lost') AS outcome, j.reason, j.note
)
SELECT
l.id, l.fence, l.principal, l.operation, l.purpose, l.owner, l.project_id, l.env, l.domain, l.metadata,
l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.ended_at, l.ended_by,
l.outcome, l.reason, l.note, l.fingerprint, l.requested_at, l.labels || coalesce(l.choices, '{}') AS wanted_labels,
l.waited,
coalesce(p.name, l.project_id::text) AS project_name,
extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
u.id AS user_id, u.login, u.project_id AS user_project_id, u.env AS user_env, u.domain AS user_domain,
CASE WHEN u.lease_id = l.id AND u.expires_at > clock_timestamp() THEN u.locktime END AS locktime,
u.labels, u.due, u.outcome AS user_outcome, u.reason AS user_reason, u.note AS user_note
FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
ORDER BY l.id, u.id
