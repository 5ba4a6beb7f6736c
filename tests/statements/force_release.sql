-- POST /leases/{lease_id}/force_release: an operator ends a lease of the scope, whoever holds it.
-- Its users rest for the project's lock_delay.

WITH wanted AS MATERIALIZED (
    SELECT CAST(:lease_id AS uuid) AS id, CAST(NULL AS text) AS outcome, CAST(:reason AS text) AS note,
           'lock_delay' AS rest
),
lease AS MATERIALIZED (
    SELECT * FROM leases AS l WHERE l.id = :lease_id AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR l.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR l.env = ANY (CAST(:scope_envs AS text[]))) FOR UPDATE
),
locked AS MATERIALIZED (
    SELECT users.id, users.lease_id, users.expires_at, users.password, users.secrets, users.totp_seed
    FROM lease, unnest(lease.user_ids) AS of_lease (id), users
    WHERE users.id = of_lease.id AND users.lease_id = lease.id
    ORDER BY users.id FOR UPDATE OF users
),
live AS MATERIALIZED (
    SELECT lease.*, clock_timestamp() AS now FROM lease
    WHERE lease.ended_at IS NULL
      AND (SELECT count(*) FROM locked WHERE expires_at > clock_timestamp()) > 0
),
l AS (
    UPDATE leases SET ended_at = live.now, ended_by = :ended_by,
           outcome = wanted.outcome, note = wanted.note
    FROM live, wanted WHERE leases.id = live.id AND wanted.id = live.id
    RETURNING leases.*
),
u AS (
    UPDATE users SET locktime = NULL, expires_at = NULL, available_at = live.now + make_interval(secs => (
        SELECT CASE wanted.rest WHEN 'lock_delay' THEN lock_delay WHEN 'cooldown' THEN cooldown ELSE 0 END
        FROM projects WHERE projects.id = live.project_id))
    FROM live, wanted, locked
    WHERE wanted.id = live.id AND locked.lease_id = live.id AND users.id = locked.id
    RETURNING users.*
)
SELECT
l.id, l.fence, l.principal, l.operation, l.owner, l.project_id, l.env, l.domain, l.metadata,
l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.ended_at, l.ended_by, l.outcome, l.note,
l.fingerprint,
coalesce(p.name, l.project_id::text) AS project_name,
extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
u.id AS user_id, u.login, u.project_id AS user_project_id, u.env AS user_env, u.domain AS user_domain,
CASE WHEN u.lease_id = l.id AND u.expires_at > clock_timestamp() THEN u.locktime END AS locktime,
u.labels
FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
ORDER BY l.id, u.id
