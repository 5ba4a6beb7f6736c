-- POST /users/{user_id}/acquire_lock: grants one user by its id, whatever its pool.
-- Returns no row when the user is busy or locked, or the idempotency key is taken.

WITH p AS MATERIALIZED (
    SELECT p.*, (p.cleaning = 'required' OR p.rotate_on_release) AS cleaned,
CASE WHEN :purpose = 'hold' THEN least(CAST(:ttl AS integer), p.max_hold)
     ELSE least(coalesce(CAST(:ttl AS integer), p.default_ttl), p.max_ttl, p.max_hold) END AS ttl,
           users.env, users.domain
    FROM projects AS p JOIN users ON users.project_id = p.id WHERE users.id = :user_id
),
taken AS MATERIALIZED (
    SELECT u.id FROM users AS u
    WHERE u.id = :user_id AND (
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (SELECT cleaned FROM p))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (SELECT cleaned FROM p) THEN greatest(u.available_at, u.status_until)
     END) <= least(clock_timestamp(), CAST(:latest AS timestamptz))
      AND NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.user_id = u.id AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds') AND (CAST(:scope_projects AS uuid[]) IS NULL
       OR u.project_id = ANY (CAST(:scope_projects AS uuid[])))
  AND (CAST(:scope_envs AS text[]) IS NULL OR u.env = ANY (CAST(:scope_envs AS text[]))) FOR UPDATE SKIP LOCKED
),
c AS MATERIALIZED (SELECT clock_timestamp() AS now FROM taken),
l AS (
    INSERT INTO leases (fence, principal, operation, purpose, owner, project_id, env, domain, user_ids,
                        metadata, acquired_at, expires_at, ttl_seconds, hold_until, idempotency_key,
                        fingerprint, address, request_id, note,
                        requested_at, waited, labels, priority, wait_seconds)
    SELECT nextval('fence'), :principal, :operation, :purpose, CAST(:owner AS text), p.id, p.env, p.domain,
           ARRAY[taken.id], CAST(:metadata AS jsonb), now, now + make_interval(secs => p.ttl), p.ttl,
           now + make_interval(secs => p.max_hold), CAST(:idempotency_key AS text),
           CAST(:fingerprint AS bytea), CAST(:address AS text), CAST(:request_id AS text),
           CAST(:note AS text), now, 0, '{}', 0, 0
    FROM taken, c, p
    ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING *, xmin AS row_version
),
lease_users AS (
    INSERT INTO lease_users (user_id, fence) SELECT taken.id, l.fence FROM l, taken
),
u AS (
    UPDATE users AS u SET locktime = l.acquired_at, expires_at = l.expires_at,
           lease_id = l.id, fence = l.fence, purpose = :purpose,
           available_at = greatest(l.expires_at + make_interval(secs => p.lock_delay),
                                   l.acquired_at + make_interval(secs => p.login_gap)),
failures = u.failures + CAST(u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.count_expired AS integer),
failed_chores = u.failed_chores + CAST(u.locktime IS NOT NULL AND coalesce(u.purpose = 'chore', false) AS integer),
must_rotate = (u.must_rotate OR (u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.rotate_on_release)),
status = 'active',
status_since = CASE 'active' WHEN u.status THEN u.status_since WHEN 'active' THEN NULL ELSE c.now END,
status_by = CASE 'active' WHEN u.status THEN u.status_by WHEN 'active' THEN NULL ELSE 'policy' END,
status_reason = CASE 'active' WHEN u.status THEN u.status_reason END,
status_until = CASE 'active' WHEN u.status THEN u.status_until END
    FROM l, p, c, taken
    WHERE u.id = taken.id
    RETURNING u.*
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
u.password, u.secrets, u.totp_seed, CASE WHEN l.purpose <> 'test' THEN u.pending_password END AS pending_password, l.row_version FROM l, p, u
