-- POST /leases with the purpose chore: grants users that are dirty or due to keepers of one pool.
-- A user that is not dirty is left to a test that waits. Each row says what is due.

WITH p AS MATERIALIZED (
    SELECT p.*, (p.cleaning = 'required' OR p.rotate_on_release) AS cleaned, CAST(:env AS text) AS env, CAST(:domain AS text) AS domain
    FROM projects AS p WHERE p.id = :project_id
),
wanted AS MATERIALIZED (
    SELECT w.*, sum(w.count) OVER (ORDER BY w.position) AS upto
    FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:counts AS integer[]), CAST(:ttls AS integer[]),
                CAST(:principals AS text[]), CAST(:owners AS text[]), CAST(:metadata AS text[]),
                CAST(:idempotency_keys AS text[]), CAST(:fingerprints AS bytea[]),
                CAST(:addresses AS text[]), CAST(:request_ids AS text[]),
                CAST(:priorities AS integer[]), CAST(:wait_seconds AS float8[]),
                CAST(:since AS float8[]), CAST(:notes AS text[]),
                CAST(:tickets AS bigint[])) WITH ORDINALITY
         AS w (id, count, ttl, principal, owner, metadata, idempotency_key, fingerprint,
               address, request_id, priority, wait_seconds, since, note, ticket, position)
),
kept AS MATERIALIZED (
    SELECT CASE WHEN NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND t.user_id IS NULL)
                THEN ARRAY(SELECT t.user_id FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND t.user_id IS NOT NULL) END AS user_ids
),
ahead AS MATERIALIZED (
    SELECT * FROM (
        SELECT u.id,
array_remove(ARRAY[
    CASE WHEN (u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) THEN 'clean' END,
    CASE WHEN CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END <= c.now THEN 'check' END,
    CASE WHEN (u.must_rotate OR (u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.rotate_on_release)) OR u.pending_password IS NOT NULL OR CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END <= c.now THEN 'rotate' END,
    CASE WHEN CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END <= c.now THEN 'session' END], NULL) AS due FROM users AS u CROSS JOIN p CROSS JOIN (SELECT clock_timestamp() AS now) AS c
        WHERE (u.project_id, u.env, u.domain, u.id) > (:project_id, :env, :domain, :hand)
          AND (u.project_id, u.env, u.domain, u.id) <= (:project_id, :env, :domain, :last)
          AND CASE WHEN u.labels @> CAST(:labels AS jsonb) AND (CAST(:choices AS jsonb) IS NULL OR NOT EXISTS (
          SELECT FROM jsonb_each(CAST(:choices AS jsonb)) AS choice
          WHERE CASE WHEN choice.value = 'null' THEN u.labels ? choice.key
                     ELSE (choice.value @> (u.labels -> choice.key)) IS NOT TRUE END)) THEN true END AND (
CASE WHEN NOT (NOT (u.health = 'failing' AND u.health_reason IN ('credential_rejected', 'locked_out')))
       OR u.failed_chores + CAST(u.locktime IS NOT NULL AND coalesce(u.purpose = 'chore', false) AS integer) >= p.clean_attempts THEN NULL
     WHEN (u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) THEN greatest(u.available_at, u.status_until)
     WHEN (u.status = 'active' OR (u.status = 'quarantined' AND u.status_until IS NOT NULL))
          AND least(CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END, CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END, CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END) IS NOT NULL THEN greatest(u.available_at, u.status_until, least(CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END, CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END, CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END))
     END) <= least(clock_timestamp(), CAST(:latest AS timestamptz)) AND ((u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) OR ((SELECT user_ids FROM kept) IS NOT NULL
      AND u.id <> ALL (CAST((SELECT user_ids FROM kept) AS uuid[])))) AND NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'chore' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds')
        ORDER BY u.project_id, u.env, u.domain, u.id
        LIMIT 100 FOR UPDATE OF u SKIP LOCKED
    ) AS u
    LIMIT :total
),
behind AS MATERIALIZED (
    SELECT * FROM (
        SELECT u.id,
array_remove(ARRAY[
    CASE WHEN (u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) THEN 'clean' END,
    CASE WHEN CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END <= c.now THEN 'check' END,
    CASE WHEN (u.must_rotate OR (u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.rotate_on_release)) OR u.pending_password IS NOT NULL OR CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END <= c.now THEN 'rotate' END,
    CASE WHEN CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END <= c.now THEN 'session' END], NULL) AS due FROM users AS u CROSS JOIN p CROSS JOIN (SELECT clock_timestamp() AS now) AS c
        WHERE (u.project_id, u.env, u.domain, u.id) >= (:project_id, :env, :domain, :first)
          AND (u.project_id, u.env, u.domain, u.id) < (:project_id, :env, :domain, :hand)
          AND CASE WHEN u.labels @> CAST(:labels AS jsonb) AND (CAST(:choices AS jsonb) IS NULL OR NOT EXISTS (
          SELECT FROM jsonb_each(CAST(:choices AS jsonb)) AS choice
          WHERE CASE WHEN choice.value = 'null' THEN u.labels ? choice.key
                     ELSE (choice.value @> (u.labels -> choice.key)) IS NOT TRUE END)) THEN true END AND (
CASE WHEN NOT (NOT (u.health = 'failing' AND u.health_reason IN ('credential_rejected', 'locked_out')))
       OR u.failed_chores + CAST(u.locktime IS NOT NULL AND coalesce(u.purpose = 'chore', false) AS integer) >= p.clean_attempts THEN NULL
     WHEN (u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) THEN greatest(u.available_at, u.status_until)
     WHEN (u.status = 'active' OR (u.status = 'quarantined' AND u.status_until IS NOT NULL))
          AND least(CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END, CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END, CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END) IS NOT NULL THEN greatest(u.available_at, u.status_until, least(CASE WHEN p.check_every > 0
THEN coalesce(u.checked_at + make_interval(secs => p.check_every), u.created_at) END, CASE WHEN p.rotate_every > 0
THEN coalesce(u.rotated_at, u.created_at) + make_interval(secs => p.rotate_every) END, CASE WHEN p.session_refresh > 0
THEN u.session_expires_at - make_interval(secs => p.session_refresh) END))
     END) <= least(clock_timestamp(), CAST(:latest AS timestamptz)) AND ((u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) OR ((SELECT user_ids FROM kept) IS NOT NULL
      AND u.id <> ALL (CAST((SELECT user_ids FROM kept) AS uuid[])))) AND NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'chore' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds')
        ORDER BY u.project_id, u.env, u.domain, u.id
        LIMIT 100 FOR UPDATE OF u SKIP LOCKED
    ) AS u
    LIMIT :total - (SELECT count(*) FROM ahead)
),
taken AS MATERIALIZED (
    SELECT id, due, row_number() OVER () AS place
    FROM (SELECT id, due FROM ahead UNION ALL SELECT id, due FROM behind) AS both_ways
),
fit AS MATERIALIZED (
    SELECT w.id, array_agg(taken.id ORDER BY taken.id) AS user_ids
    FROM wanted AS w JOIN taken ON taken.place > w.upto - w.count AND taken.place <= w.upto
    WHERE w.upto <= (SELECT count(*) FROM taken)
    GROUP BY w.id
),
moment AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM fit) > 0),
l AS (
    INSERT INTO leases (id, fence, principal, operation, purpose, owner, project_id, env, domain, user_ids,
                        metadata, acquired_at, expires_at, ttl_seconds, hold_until,
                        idempotency_key, fingerprint, address, request_id,
                        requested_at, waited, labels, choices, priority, wait_seconds, note)
    SELECT w.id, nextval('fence'), w.principal, 'acquire_lease', :purpose, w.owner, p.id, p.env, p.domain,
           fit.user_ids, CAST(w.metadata AS jsonb), now, now + make_interval(secs => granted.ttl),
           granted.ttl, now + make_interval(secs => p.max_hold),
           w.idempotency_key, w.fingerprint, w.address, w.request_id,
           asked.at, greatest(0, extract(epoch FROM now - asked.at)), CAST(:labels AS jsonb),
           CAST(:choices AS jsonb), w.priority, w.wait_seconds, w.note
    FROM moment, p, wanted AS w JOIN fit ON fit.id = w.id ,
         LATERAL (SELECT
CASE WHEN :purpose = 'hold' THEN least(w.ttl, p.max_hold)
     ELSE least(coalesce(w.ttl, p.default_ttl), p.max_ttl, p.max_hold) END AS ttl) AS granted,
         LATERAL (SELECT now - make_interval(secs => w.since) AS at) AS asked
    ORDER BY w.principal, w.idempotency_key
    ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING id, fence, user_ids, acquired_at, expires_at, ttl_seconds, hold_until, requested_at, waited,
              xmin AS row_version
),
lease_users AS (
    INSERT INTO lease_users (user_id, fence, due)
    SELECT granted.id, l.fence, taken.due FROM l, unnest(l.user_ids) AS granted (id) JOIN taken ON taken.id = granted.id
),
u AS (
    UPDATE users AS u SET locktime = l.acquired_at, expires_at = l.expires_at,
           lease_id = l.id, fence = l.fence, purpose = :purpose,
           available_at = greatest(l.expires_at + make_interval(secs => p.lock_delay),
                                   l.acquired_at + make_interval(secs => p.login_gap)),
failures = u.failures + CAST(u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.count_expired AS integer),
failed_chores = u.failed_chores + CAST(u.locktime IS NOT NULL AND coalesce(u.purpose = 'chore', false) AS integer),
must_rotate = (u.must_rotate OR (u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.rotate_on_release)),
status = CASE WHEN 'clean' = ANY (taken.due) THEN 'dirty' ELSE 'active' END,
status_since = CASE CASE WHEN 'clean' = ANY (taken.due) THEN 'dirty' ELSE 'active' END WHEN u.status THEN u.status_since WHEN 'active' THEN NULL ELSE l.acquired_at END,
status_by = CASE CASE WHEN 'clean' = ANY (taken.due) THEN 'dirty' ELSE 'active' END WHEN u.status THEN u.status_by WHEN 'active' THEN NULL ELSE 'policy' END,
status_reason = CASE CASE WHEN 'clean' = ANY (taken.due) THEN 'dirty' ELSE 'active' END WHEN u.status THEN u.status_reason END,
status_until = CASE CASE WHEN 'clean' = ANY (taken.due) THEN 'dirty' ELSE 'active' END WHEN u.status THEN u.status_until END
    FROM l, p, unnest(l.user_ids) AS granted (id) JOIN taken ON taken.id = granted.id
    WHERE u.id = granted.id
    RETURNING u.id, u.login, u.password, u.secrets, u.totp_seed, u.labels, u.lease_id, u.pending_password,
              taken.due AS due
)
SELECT l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.row_version,
       l.requested_at, l.waited, p.name AS project_name,
       extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
       u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels, u.due,
       CASE WHEN :purpose <> 'test' THEN u.pending_password END AS pending_password
FROM p, l JOIN u ON u.lease_id = l.id ORDER BY u.id
