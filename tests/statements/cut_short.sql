-- After a grant under an idempotency key whose caller hung up: shortens the lease to some seconds.
-- Changes nothing when the row is not as the grant left it, because a retry may have come first.

WITH wanted AS MATERIALIZED (SELECT CAST(:lease_id AS uuid) AS id, CAST(:principal AS text) AS principal),
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
moved AS MATERIALIZED (
    SELECT live.id, live.acquired_at, p.lock_delay, p.login_gap, granted.ttl, least(live.expires_at, live.now + make_interval(secs => :seconds)) AS expires_at
    FROM live JOIN wanted ON wanted.id = live.id JOIN projects AS p ON p.id = live.project_id,
         LATERAL (SELECT live.ttl_seconds AS ttl) AS granted
    WHERE live.row_version = CAST(CAST(:row_version AS text) AS xid)
),
l AS (
    UPDATE leases SET expires_at = moved.expires_at, ttl_seconds = moved.ttl
    FROM moved WHERE leases.id = moved.id
    RETURNING leases.*
),
u AS (
    UPDATE users AS u SET expires_at = moved.expires_at,
           available_at = greatest(moved.expires_at + make_interval(secs => moved.lock_delay),
                                   moved.acquired_at + make_interval(secs => moved.login_gap))
    FROM moved, locked WHERE locked.lease_id = moved.id AND u.id = locked.id
    RETURNING
u.id, u.login, u.project_id, u.env, u.domain, u.lease_id, u.expires_at, u.locktime, u.labels, u.password, u.secrets, u.totp_seed, u.pending_password
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
u.labels,
u.password, u.secrets, u.totp_seed, CASE WHEN l.purpose <> 'test' THEN u.pending_password END AS pending_password,
CASE WHEN l.purpose = 'chore' THEN (
    SELECT lu.due FROM lease_users AS lu WHERE lu.user_id = u.id AND lu.fence = l.fence) END AS due
FROM l LEFT JOIN projects AS p ON p.id = l.project_id JOIN u ON u.lease_id = l.id
ORDER BY l.id, u.id
