-- The worker's job `reap`: closes expired leases and frees the users whose last lease they are.
-- Skips leases that another statement has locked; the next turn finds them.

WITH lease AS MATERIALIZED (
    SELECT id, user_ids, project_id, env, domain, acquired_at, expires_at, ttl_seconds FROM leases
    WHERE ended_at IS NULL
      AND expires_at <= (SELECT least(clock_timestamp(), CAST(:latest AS timestamptz)))
    ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
),
locked AS MATERIALIZED (
    SELECT users.id, lease.ttl_seconds
    FROM lease, unnest(lease.user_ids) AS of_lease (id), users
    WHERE users.id = of_lease.id AND users.lease_id = lease.id
    ORDER BY users.id FOR UPDATE OF users
),
closed AS (
    UPDATE leases SET ended_at = leases.expires_at, ended_by = 'expired'
    FROM lease WHERE leases.id = lease.id
),
cleared AS (
    UPDATE users SET locktime = NULL, expires_at = NULL, available_at = least(
        users.available_at + make_interval(secs => CAST(:step AS float8)),
        greatest(users.available_at,
                 clock_timestamp() + make_interval(secs => locked.ttl_seconds + p.lock_delay)))
    FROM locked, projects AS p WHERE users.id = locked.id AND p.id = users.project_id
)
SELECT lease.project_id, lease.env, lease.domain,
       coalesce(p.name, lease.project_id::text) AS project_name,
       extract(epoch FROM lease.expires_at - lease.acquired_at)::float8 AS held_for
FROM lease LEFT JOIN projects AS p ON p.id = lease.project_id
