-- `botfarm after-restore`: lets every user rest, because later leases may still be held.
-- How long: as asked for, else the longest that such a lease could last.

WITH resting AS (
    UPDATE users SET locktime = NULL, expires_at = NULL, available_at = coalesce(
        clock_timestamp() + make_interval(secs => CAST(:rest AS float8)),
        greatest(available_at, clock_timestamp()
                 + make_interval(secs => greatest(p.max_ttl + p.lock_delay, p.cooldown))))
    FROM projects AS p WHERE p.id = users.project_id
    RETURNING available_at
)
SELECT count(*) AS users, max(available_at) AS until FROM resting
