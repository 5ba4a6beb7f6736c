-- POST /leases without a grant: counts matching users and waiting requests, for the 409 or the wait.
-- Requests that ask at the same time share one count.

SELECT
count(*) FILTER (WHERE u.status <> 'retired') AS total,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'free') AS free,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'leased') AS leased,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'resting') AS resting,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'dirty') AS dirty,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'chore') AS chore,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'held') AS held,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'quarantined') AS quarantined,
count(*) FILTER (WHERE
CASE WHEN u.status = 'retired' THEN 'retired'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'chore' THEN 'chore'
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) AND u.purpose = 'hold' THEN 'held'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) NOT IN ('active', 'dirty') THEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END)
     WHEN (u.locktime IS NOT NULL AND u.expires_at > c.now) THEN 'leased'
     WHEN (
CASE WHEN u.status = 'active' AND (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) AND u.expires_at <= c.now THEN 'dirty'
     WHEN u.status = 'quarantined' AND u.status_until <= c.now THEN
          CASE WHEN (p.cleaning = 'required' OR p.rotate_on_release) OR (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) OR u.pending_password IS NOT NULL THEN 'dirty' ELSE 'active' END
     ELSE u.status END) = 'dirty' THEN 'dirty'
     WHEN u.available_at > c.now THEN 'resting'
     ELSE 'free' END = 'retired') AS retired,
extract(epoch FROM min(
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (p.cleaning = 'required' OR p.rotate_on_release) THEN greatest(u.available_at, u.status_until)
     END) FILTER (WHERE
CASE WHEN (u.locktime IS NOT NULL AND (coalesce(u.purpose = 'chore', false) OR (p.cleaning = 'required' OR p.rotate_on_release))) THEN NULL
     WHEN u.status = 'active' THEN u.available_at
     WHEN u.status = 'quarantined' AND u.status_until IS NOT NULL
          AND u.pending_password IS NULL AND NOT (p.cleaning = 'required' OR p.rotate_on_release) THEN greatest(u.available_at, u.status_until)
     END > c.now) - min(c.now))::float8 AS next_free_in,
       (SELECT count(*) FROM tickets AS t JOIN replicas AS r ON r.id = t.replica
        WHERE t.project_id = :project_id AND t.env = :env AND t.domain = :domain AND t.purpose = 'test' AND t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds') AS waiting
FROM users AS u JOIN projects AS p ON p.id = u.project_id, (SELECT clock_timestamp() AS now) AS c
WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain AND u.labels @> CAST(:labels AS jsonb)
