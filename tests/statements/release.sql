-- POST /leases/{lease_id}/release: a batch of releases, each by the holder of its lease.
-- Of tests and holds, with verdicts that cannot quarantine a user. May wake waiting requests at its commit.

WITH wanted AS MATERIALIZED (
    SELECT *
    FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:principals AS text[]), CAST(:outcomes AS text[]),
                CAST(:reasons AS text[]), CAST(:notes AS text[]), CAST(:rests AS text[]))
         AS w (id, principal, outcome, reason, note, rest)
),
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
    WHERE lease.ended_at IS NULL AND purpose IS DISTINCT FROM 'chore'
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
u AS (
    UPDATE users AS u SET locktime = NULL, expires_at = NULL,
           available_at =
CASE WHEN wanted.rest = 'none' THEN live.now ELSE greatest(
    live.now + make_interval(secs => CASE wanted.rest WHEN 'lock_delay' THEN p.lock_delay ELSE p.cooldown END),
    live.acquired_at + make_interval(secs => p.login_gap)) END,
           status = CASE WHEN (u.status = 'active' AND wanted.outcome IS NOT NULL AND (p.cleaning = 'required' OR p.rotate_on_release)) THEN 'dirty' ELSE u.status END,
           status_since = CASE WHEN (u.status = 'active' AND wanted.outcome IS NOT NULL AND (p.cleaning = 'required' OR p.rotate_on_release)) THEN live.now ELSE u.status_since END,
           status_by = CASE WHEN (u.status = 'active' AND wanted.outcome IS NOT NULL AND (p.cleaning = 'required' OR p.rotate_on_release)) THEN 'policy' ELSE u.status_by END,
           failures = CASE wanted.outcome WHEN 'ok' THEN 0 ELSE u.failures END,
           must_rotate = u.must_rotate OR (wanted.outcome IS NOT NULL AND p.rotate_on_release)
    FROM live, wanted, locked, projects AS p
    WHERE wanted.id = live.id AND locked.lease_id = live.id AND u.id = locked.id AND p.id = u.project_id
    RETURNING
u.id, u.login, u.project_id, u.env, u.domain, u.lease_id, u.expires_at, u.locktime, u.labels
),
notified AS MATERIALIZED (
SELECT freed.id, pg_notify('botfarm_' || replace(CAST(freed.id AS text), '-', ''), '')
FROM (SELECT DISTINCT project_id FROM live) AS freed (id)
WHERE EXISTS (SELECT FROM tickets AS t WHERE t.project_id = freed.id) AND :notifies
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
u.labels, l.project_id IN (SELECT id FROM notified) AS is_notified
FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
ORDER BY l.id, u.id
