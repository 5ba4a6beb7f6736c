-- POST /leases: grants users of one pool to a batch of requests for the same labels, a lease to each.
-- Returns no row for a request that finds too few users, or when a live ticket waits in this pool.

WITH p AS MATERIALIZED (
    SELECT projects.*, CAST(:env AS text) AS env, CAST(:domain AS text) AS domain
    FROM projects WHERE projects.id = :project_id
),
wanted AS MATERIALIZED (
    SELECT w.*, sum(w.count) OVER (ORDER BY w.position) AS upto
    FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:counts AS integer[]), CAST(:ttls AS integer[]),
                CAST(:principals AS text[]), CAST(:owners AS text[]), CAST(:metadata AS text[]),
                CAST(:idempotency_keys AS text[]), CAST(:fingerprints AS bytea[]),
                CAST(:addresses AS text[]), CAST(:request_ids AS text[]),
                CAST(:tickets AS bigint[])) WITH ORDINALITY
         AS w (id, count, ttl, principal, owner, metadata, idempotency_key, fingerprint,
               address, request_id, ticket, position)
),
ahead AS MATERIALIZED (
    SELECT u.id FROM users AS u
    WHERE (u.project_id, u.env, u.domain, u.id) > (:project_id, :env, :domain, :hand)
      AND (u.project_id, u.env, u.domain, u.id) <= (:project_id, :env, :domain, CAST('ffffffff-ffff-ffff-ffff-ffffffffffff' AS uuid))
      AND u.status = 'active' AND u.available_at <= least(clock_timestamp(), CAST(:latest AS timestamptz)) AND u.labels @> CAST(:labels AS jsonb) AND NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds')
    ORDER BY u.project_id, u.env, u.domain, u.id
    LIMIT :total FOR UPDATE SKIP LOCKED
),
behind AS MATERIALIZED (
    SELECT u.id FROM users AS u
    WHERE (u.project_id, u.env, u.domain, u.id) >= (:project_id, :env, :domain, CAST('00000000-0000-0000-0000-000000000000' AS uuid))
      AND (u.project_id, u.env, u.domain, u.id) < (:project_id, :env, :domain, :hand)
      AND u.status = 'active' AND u.available_at <= least(clock_timestamp(), CAST(:latest AS timestamptz)) AND u.labels @> CAST(:labels AS jsonb) AND NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds')
    ORDER BY u.project_id, u.env, u.domain, u.id
    LIMIT :total - (SELECT count(*) FROM ahead) FOR UPDATE SKIP LOCKED
),
taken AS MATERIALIZED (
    SELECT id, row_number() OVER () AS place
    FROM (SELECT id FROM ahead UNION ALL SELECT id FROM behind) AS both_ways
),
fit AS MATERIALIZED (
    SELECT w.id, array_agg(taken.id ORDER BY taken.id) AS user_ids
    FROM wanted AS w JOIN taken ON taken.place > w.upto - w.count AND taken.place <= w.upto
    WHERE w.upto <= (SELECT count(*) FROM taken)
    GROUP BY w.id
),
moment AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM fit) > 0),
l AS (
    INSERT INTO leases (id, fence, principal, operation, owner, project_id, env, domain, user_ids,
                        metadata, acquired_at, expires_at, ttl_seconds, hold_until,
                        idempotency_key, fingerprint, address, request_id)
    SELECT w.id, nextval('fence'), w.principal, 'acquire_lease', w.owner, p.id, p.env, p.domain,
           fit.user_ids, CAST(w.metadata AS jsonb), now, now + make_interval(secs => granted.ttl),
           granted.ttl, now + make_interval(secs => p.max_hold),
           w.idempotency_key, w.fingerprint, w.address, w.request_id
    FROM moment, p, wanted AS w JOIN fit ON fit.id = w.id ,
         LATERAL (SELECT least(coalesce(w.ttl, p.default_ttl), p.max_ttl, p.max_hold) AS ttl) AS granted
    ORDER BY w.principal, w.idempotency_key
    ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, fence, user_ids, acquired_at, expires_at, ttl_seconds, hold_until, xmin AS row_version
),
u AS (
    UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at,
           lease_id = l.id, fence = l.fence,
           available_at = l.expires_at + make_interval(secs => p.lock_delay)
    FROM l, p, unnest(l.user_ids) AS granted (id)
    WHERE users.id = granted.id
    RETURNING users.id, users.login, users.password, users.secrets, users.totp_seed, users.labels,
              users.lease_id
)
SELECT l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.row_version,
       p.name AS project_name,
       extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
       u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels
FROM p, l JOIN u ON u.lease_id = l.id ORDER BY u.id
