"""Acquire and release without batches: the best that one statement for each lease can reach.

The server's own statements serve many requests at once, which costs something when there is only one. These
do the same for one lease, history included. For pgbench: `:r` is random, `:id` comes from the acquire.
"""

from uuid import UUID

RANDOM_HAND = "CAST(lpad(to_hex(CAST(:r AS bigint)), 8, '0') || '-0000-f000-8000-000000000000' AS uuid)"
"""Clients start their searches at random places, because they compete for the same rows otherwise."""

_FREE = "u.status = 'active' AND u.available_at <= clock_timestamp() AND u.labels @> '{{}}'::jsonb"
_ROW = "(u.project_id, u.env, u.domain, u.id)"
_PLACE = "('{project_id}', 'stage', 'regular', {id})"
_AHEAD, _BEHIND = (
    " AND ".join(f"{_ROW} {side} {_PLACE.replace('{id}', place)}" for side, place in sides)
    for sides in (
        [(">", RANDOM_HAND), ("<=", "'ffffffff-ffff-ffff-ffff-ffffffffffff'")],
        [(">=", "'00000000-0000-0000-0000-000000000000'"), ("<", RANDOM_HAND)],
    )
)
_ORDER = "ORDER BY u.project_id, u.env, u.domain, u.id"

_ACQUIRE = f"""
WITH p AS MATERIALIZED (SELECT * FROM projects WHERE id = '{{project_id}}'),
ahead AS MATERIALIZED (
    SELECT u.id FROM users AS u WHERE {_AHEAD} AND {_FREE}
    {_ORDER} LIMIT 1 FOR UPDATE SKIP LOCKED
),
behind AS MATERIALIZED (
    SELECT u.id FROM users AS u WHERE {_BEHIND} AND {_FREE}
    {_ORDER} LIMIT 1 - (SELECT count(*) FROM ahead) FOR UPDATE SKIP LOCKED
),
taken AS MATERIALIZED (
    SELECT id, clock_timestamp() AS now FROM (SELECT id FROM ahead UNION ALL SELECT id FROM behind) AS t
),
l AS (
    INSERT INTO leases (fence, principal, operation, owner, project_id, env, domain, user_ids, metadata,
                        acquired_at, expires_at, ttl_seconds, hold_until, address, request_id)
    SELECT nextval('fence'), '{{principal}}', 'acquire_lease', NULL, p.id, 'stage', 'regular',
           ARRAY[taken.id], '{{{{}}}}',
           now, now + make_interval(secs => p.default_ttl),
           p.default_ttl, now + make_interval(secs => p.max_hold),
           '127.0.0.1', '00000000000000000000000000000000'
    FROM taken, p
    RETURNING *
)
UPDATE users AS u SET locktime = l.acquired_at, expires_at = l.expires_at, lease_id = l.id, fence = l.fence,
       available_at = l.expires_at + make_interval(secs => p.lock_delay)
FROM l, p WHERE u.id = l.user_ids[1]
RETURNING l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, p.name AS project_name,
          u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels
"""

_RELEASE = """
WITH lease AS MATERIALIZED (
    SELECT id, user_ids, project_id FROM leases
    WHERE id = :id AND principal = '{principal}' AND ended_at IS NULL FOR UPDATE
),
locked AS MATERIALIZED (
    SELECT users.id, users.expires_at
    FROM lease JOIN users ON users.id = lease.user_ids[1] AND users.lease_id = lease.id
    FOR UPDATE OF users
),
live AS MATERIALIZED (
    SELECT lease.id, lease.project_id, locked.id AS user_id, clock_timestamp() AS now FROM lease, locked
    WHERE locked.expires_at > clock_timestamp()
),
l AS (
    UPDATE leases SET ended_at = live.now, ended_by = 'released', outcome = 'ok'
    FROM live WHERE leases.id = live.id
    RETURNING leases.*
)
UPDATE users SET locktime = NULL, expires_at = NULL,
       available_at = live.now + make_interval(secs => projects.cooldown)
FROM live, l, projects WHERE users.id = live.user_id AND projects.id = live.project_id
RETURNING l.*, users.id AS user_id, users.login, users.labels;
"""


def single_lease_script(project_id: UUID, principal: str) -> tuple[str, str]:
    """Returns the acquire and the release."""
    return (
        _ACQUIRE.format(project_id=project_id, principal=principal),
        _RELEASE.format(principal=principal),
    )
