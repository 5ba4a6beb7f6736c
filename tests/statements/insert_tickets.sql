-- Requests that begin to wait: inserts a batch of tickets, or takes over those of the same keys.
-- A ticket ranks by the arrival of its request, never before earlier tickets of the same replica.

WITH new AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('tickets', 'id')) AS id, w.*,
           least(c.now, greatest(c.now - make_interval(secs => w.since),
                                 CAST(:not_before AS timestamptz))) AS arrived_at,
           c.now + make_interval(secs => w.seconds) AS deadline
    FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]),
                CAST(:labels AS text[]), CAST(:choices AS text[]), CAST(:user_ids AS uuid[]),
                CAST(:counts AS integer[]), CAST(:priorities AS integer[]),
                CAST(:since AS float8[]), CAST(:seconds AS float8[]), CAST(:principals AS text[]),
                CAST(:owners AS text[]), CAST(:idempotency_keys AS text[]),
                CAST(:fingerprints AS bytea[]), CAST(:purposes AS text[])) WITH ORDINALITY
         AS w (project_id, env, domain, labels, choices, user_id, count, priority, since, seconds, principal, owner,
               idempotency_key, fingerprint, purpose, position), (SELECT clock_timestamp() AS now) AS c
),
parked AS (
    INSERT INTO tickets AS t (id, project_id, env, domain, labels, choices, user_id, count, priority,
                              rank, arrived_at, replica, deadline, principal, owner, idempotency_key,
                              fingerprint, purpose)
    OVERRIDING SYSTEM VALUE
    SELECT id, project_id, env, domain, CAST(labels AS jsonb), CAST(choices AS jsonb), user_id, count, priority,
           arrived_at - priority * interval '60 seconds', arrived_at,
           :replica, deadline, principal, owner, idempotency_key, fingerprint, purpose
    FROM new ORDER BY principal, idempotency_key, id
    ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO UPDATE
    SET project_id = excluded.project_id, env = excluded.env, domain = excluded.domain,
        labels = excluded.labels, choices = excluded.choices, user_id = excluded.user_id,
        count = excluded.count, priority = excluded.priority,
        owner = excluded.owner, fingerprint = excluded.fingerprint, replica = excluded.replica,
        deadline = excluded.deadline, purpose = excluded.purpose,
        rank = CASE WHEN t.deadline > clock_timestamp() THEN t.rank ELSE excluded.rank END,
        arrived_at = CASE WHEN t.deadline > clock_timestamp() THEN t.arrived_at
                          ELSE excluded.arrived_at END
    WHERE t.fingerprint = excluded.fingerprint OR t.deadline <= clock_timestamp()
    RETURNING id, deadline, principal, idempotency_key, arrived_at
)
SELECT new.position, new.arrived_at, parked.id, parked.deadline,
       extract(epoch FROM clock_timestamp() - parked.arrived_at)::float8 AS waited
FROM parked JOIN new
     ON parked.id = new.id
     OR (parked.principal = new.principal AND parked.idempotency_key = new.idempotency_key)
