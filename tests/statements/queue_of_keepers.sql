-- The same for the keepers that wait: their queue, and the users that are dirty or due.
-- A user that is not dirty does not count while a test waits.

WITH kept AS MATERIALIZED (
    SELECT CASE WHEN NOT EXISTS (SELECT FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND t.user_id IS NULL)
                THEN ARRAY(SELECT t.user_id FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds' AND t.user_id IS NOT NULL) END AS user_ids
),
t AS MATERIALIZED (
    SELECT t.id, t.labels, t.choices, t.user_id, t.count, t.rank, t.replica = :replica AS is_ours,
           dense_rank() OVER (ORDER BY t.labels, t.choices, t.user_id) AS number
    FROM tickets AS t JOIN replicas AS r ON r.id = t.replica WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'chore' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds'
),
s AS MATERIALIZED (SELECT DISTINCT number, labels, choices, user_id FROM t),
u AS MATERIALIZED (
    SELECT g.labels, g.wanted_id, count(*) AS active,
           count(*) FILTER (WHERE g.available_at <= c.now AND g.may_have) AS free,
           min(g.available_at) FILTER (WHERE g.available_at > c.now) - min(c.now) AS due_in
    FROM (
        SELECT CASE WHEN (SELECT bool_and(labels = '{}' AND choices IS NULL) FROM s) THEN '{}'
                    ELSE u.labels END AS labels,
               CASE WHEN u.id = ANY (ARRAY(SELECT user_id FROM s WHERE user_id IS NOT NULL))
                    THEN u.id END AS wanted_id,
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
     END AS available_at, ((u.status = 'dirty' OR (u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))))
OR (u.status = 'quarantined' AND u.status_until IS NOT NULL
    AND ((p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL))) OR ((SELECT user_ids FROM kept) IS NOT NULL
      AND u.id <> ALL (CAST((SELECT user_ids FROM kept) AS uuid[])))) AS may_have
        FROM users AS u JOIN projects AS p ON p.id = u.project_id
        WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND (u.status IN ('active', 'dirty') OR u.status_until IS NOT NULL)
    ) AS g, (SELECT clock_timestamp() AS now) AS c
    GROUP BY g.labels, g.wanted_id
),
m AS MATERIALIZED (
    SELECT s.number, u.labels, u.wanted_id, u.active, u.free
    FROM s JOIN u ON (s.user_id IS NULL OR s.user_id = u.wanted_id)
      AND u.labels @> s.labels AND (s.choices IS NULL OR NOT EXISTS (
          SELECT FROM jsonb_each(s.choices) AS choice
          WHERE CASE WHEN choice.value = 'null' THEN u.labels ? choice.key
                     ELSE (choice.value @> (u.labels -> choice.key)) IS NOT TRUE END))
),
matching AS MATERIALIZED (SELECT number, sum(active) AS active, sum(free) AS free FROM m GROUP BY number),
line AS (
    SELECT t.id, t.rank, t.count, t.is_ours, t.number, matching.free,
           row_number() OVER (PARTITION BY t.number ORDER BY t.rank, t.id) AS nth
    FROM t JOIN matching ON matching.number = t.number
    WHERE matching.free > 0 AND matching.active >= t.count
)
SELECT (SELECT jsonb_agg(jsonb_build_array(id, number, count, is_ours, extract(epoch FROM rank)) ORDER BY rank, id)
        FROM line WHERE nth <= free) AS places,
       (SELECT jsonb_agg(jsonb_build_array(numbers, free)) FROM (
            SELECT jsonb_agg(number) AS numbers, max(free) AS free FROM m WHERE free > 0
            GROUP BY labels, wanted_id
        ) AS groups) AS free,
       (SELECT extract(epoch FROM min(due_in))::float8 FROM u) AS due_in,
       (SELECT id FROM (SELECT id, number, count FROM t ORDER BY rank, id LIMIT 1) AS head
        JOIN matching USING (number) WHERE matching.active >= head.count) AS first
