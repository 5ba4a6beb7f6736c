-- `botfarm after-restore`: lets every user rest, because later leases may still be held.
-- How long: as asked for, else the longest that such a lease could last.

WITH resting AS (
    UPDATE users AS u SET locktime = NULL, expires_at = NULL,
failures = u.failures + CAST(u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.count_expired AS integer),
failed_chores = u.failed_chores + CAST(u.locktime IS NOT NULL AND coalesce(u.purpose = 'chore', false) AS integer),
must_rotate = (u.must_rotate OR (u.locktime IS NOT NULL AND NOT coalesce(u.purpose = 'chore', false) AND p.rotate_on_release)),
status = CASE WHEN u.status = 'active' AND (p.cleaning = 'required' OR p.rotate_on_release) THEN 'dirty' ELSE u.status END,
status_since = CASE CASE WHEN u.status = 'active' AND (p.cleaning = 'required' OR p.rotate_on_release) THEN 'dirty' ELSE u.status END WHEN u.status THEN u.status_since WHEN 'active' THEN NULL ELSE clock_timestamp() END,
status_by = CASE CASE WHEN u.status = 'active' AND (p.cleaning = 'required' OR p.rotate_on_release) THEN 'dirty' ELSE u.status END WHEN u.status THEN u.status_by WHEN 'active' THEN NULL ELSE 'policy' END,
status_reason = CASE CASE WHEN u.status = 'active' AND (p.cleaning = 'required' OR p.rotate_on_release) THEN 'dirty' ELSE u.status END WHEN u.status THEN u.status_reason END,
status_until = CASE CASE WHEN u.status = 'active' AND (p.cleaning = 'required' OR p.rotate_on_release) THEN 'dirty' ELSE u.status END WHEN u.status THEN u.status_until END, available_at = coalesce(
        clock_timestamp() + make_interval(secs => CAST(:rest AS float8)),
        greatest(available_at, clock_timestamp()
                 + make_interval(secs => greatest(p.max_ttl + p.lock_delay, p.cooldown))))
    FROM projects AS p WHERE p.id = u.project_id
    RETURNING available_at
)
SELECT count(*) AS users, max(available_at) AS until FROM resting
