-- POST /users/{user_id}/acquire_lock: grants one user by its id, whatever its pool.
-- Returns no row when the user is busy or locked, or the idempotency key is taken.

WITH p AS MATERIALIZED (
    SELECT p.*, least(coalesce(CAST(:ttl AS integer), p.default_ttl), p.max_ttl, p.max_hold) AS ttl, users.env, users.domain
    FROM projects AS p JOIN users ON users.project_id = p.id WHERE users.id = :user_id
),
taken AS MATERIALIZED (
    SELECT u.id FROM users AS u WHERE u.id = :user_id AND u.status = 'active' AND u.available_at <= least(clock_timestamp(), CAST(:latest AS timestamptz)) AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[]))) FOR UPDATE SKIP LOCKED
),
moment AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM taken) = :count),
l AS (
    INSERT INTO leases (fence, principal, operation, owner, project_id, env, domain, user_ids, metadata,
                        acquired_at, expires_at, ttl_seconds, hold_until, idempotency_key, fingerprint,
                        address, request_id)
    SELECT nextval('fence'), :principal, :operation, CAST(:owner AS text), p.id, p.env, p.domain,
           (SELECT array_agg(taken.id ORDER BY taken.id) FROM taken), CAST(:metadata AS jsonb),
           now, now + make_interval(secs => p.ttl), p.ttl, now + make_interval(secs => p.max_hold),
           CAST(:idempotency_key AS text), CAST(:fingerprint AS bytea),
           CAST(:address AS text), CAST(:request_id AS text)
    FROM moment, p
    ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING *, xmin AS row_version
),
u AS (
    UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at,
           lease_id = l.id, fence = l.fence,
           available_at = l.expires_at + make_interval(secs => p.lock_delay)
    FROM l, p, unnest(l.user_ids) AS granted (id)
    WHERE users.id = granted.id
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
u.labels, u.password, u.secrets, u.totp_seed, l.row_version FROM l, p, u ORDER BY u.id
