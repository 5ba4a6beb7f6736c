-- Requests whose wait is over without a user: removes a batch of tickets.
-- With an idempotency key the place may be kept for some seconds, for a retry at any replica.

WITH mine AS MATERIALIZED (
    SELECT t.id, t.project_id, t.env, t.domain, t.purpose,
           leaving.is_kept AND t.idempotency_key IS NOT NULL AS is_kept
    FROM tickets AS t
    JOIN unnest(CAST(:ids AS bigint[]), CAST(:deadlines AS timestamptz[]), CAST(:are_kept AS boolean[]))
         AS leaving (id, deadline, is_kept) ON leaving.id = t.id
    WHERE t.replica = :replica AND t.deadline = leaving.deadline
    ORDER BY t.id FOR UPDATE OF t
),
deleted AS (DELETE FROM tickets USING mine WHERE tickets.id = mine.id AND NOT mine.is_kept),
kept AS (
    UPDATE tickets SET replica = NULL, deadline = clock_timestamp() + make_interval(secs => 10.0)
    FROM mine WHERE tickets.id = mine.id AND mine.is_kept
),
line AS (
    SELECT t.id,
           row_number() OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose
                              ORDER BY t.rank, t.id) AS place,
           count(*) OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose) AS waiting
    FROM tickets AS t LEFT JOIN replicas AS r ON r.id = t.replica
    WHERE (t.project_id, t.env, t.domain, t.purpose) IN (SELECT project_id, env, domain, purpose FROM mine)
      AND ((t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds') OR t.id IN (SELECT id FROM mine))
)
SELECT line.id, line.place, line.waiting FROM line JOIN mine ON mine.id = line.id
