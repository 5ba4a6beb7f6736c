"""The statement that grants users of a pool: to one request or to a batch, a lease for each request.

It is one statement, so it commits or fails as a whole. `taken` locks as many free users as all requests
together want. `fit` are the first requests for which these users are enough; the other requests get none.
`FOR UPDATE SKIP LOCKED` stands in a MATERIALIZED CTE, never in a subquery of IN, because that may be scanned
again for each outer row, and then locks and takes more users than its LIMIT.
"""

from functools import partial

from sqlalchemy import TextClause, text

from botfarm.db.shared.pool_filter import OF_POOL
from botfarm.db.shared.user_state import (
    CHORE_AT,
    CLEANED,
    CLOCK,
    DUE,
    IS_DIRTY,
    SETTLED,
    TEST_SETTLED,
    free_at,
    with_status,
)
from botfarm.db.shared.wanted_users import HAS_LABELS
from botfarm.db.waiting.live_tickets import IS_FIRST, KEPT, LIVE_TICKET, NOT_KEPT, TICKETS
from botfarm.domain.leases import MAX_USERS, Due, Purpose

GRANTED_TTL = """
    CASE WHEN :purpose = 'hold' THEN least({ttl}, p.max_hold)
         ELSE least(coalesce({ttl}, p.default_ttl), p.max_ttl, p.max_hold) END"""
"""The TTL in seconds that is granted to a request for `ttl` seconds, or null, by the project `p`."""

# A clock that was stepped forward frees no user: `latest` is the latest time it can show unless it was
# stepped, or null, which `least` ignores.
BY_NOW = "<= least(clock_timestamp(), CAST(:latest AS timestamptz))"


# PostgreSQL keeps the plan of a prepared statement only while it estimates that to be as cheap as a plan for each
# execution, and to plan this statement takes longer than to execute it. For a plan that is kept it does not know that
# `:total` is small, and estimates that one user in a hundred has the labels. So it would expect to walk through much of
# a large pool. The constant LIMIT says how few users are ever wanted, and the CASE hides the labels from the estimate.
# The LIMIT outside takes rows one by one, so only as many users are locked as are wanted.
def _walk(start: str, end: str, *, users: str, due: str, unless: str) -> str:
    return f"""
        SELECT * FROM (
            SELECT u.id, {due or "NULL"} AS due FROM {users}
            WHERE (u.project_id, u.env, u.domain, u.id) {start}
              AND (u.project_id, u.env, u.domain, u.id) {end}
              AND CASE WHEN {HAS_LABELS} THEN true END AND {unless}
            ORDER BY u.project_id, u.env, u.domain, u.id
            LIMIT {MAX_USERS} FOR UPDATE OF u SKIP LOCKED
        ) AS u"""


# The hand of a clock goes round the pool: users `ahead` of it come first, then those from the start. So users
# are leased in rotation, and the users that were leased just before are not read again. Both steps walk
# ix_users_pool in its own order, without a sort, between two rows. With `u.id > :hand` the planner takes the
# primary key as soon as its statistics know only one pool, and then walks past every user of later pools.
# With `u.project_id = :project_id` beside the row comparison it starts at the first user of the pool, not at
# the hand, because it prefers an equality to find the start and then uses the row comparison only as a
# filter. A request for one user walks from that user to itself, and starts nowhere else. The clock is read after
# the users are locked, so a lease never starts before it could be granted.
#
# Users of a test are compared with a subquery of `p`, not joined with it, because the planner would sort a join.
# Only for chores (`due`) is `taken` joined again, because each join of CTEs costs the square of a batch.
def _grant(
    *,
    project: str,
    users: str,
    due: str = "",
    settled: str,
    kept: str = "",
    unless: str,
    claimed: str = "",
    used: str = "",
    requested_at: str,
) -> TextClause:
    walk = partial(_walk, users=users, due=due, unless=unless)
    granted, granted_due = "unnest(l.user_ids) AS granted (id)", "CAST(NULL AS text[])"
    if due:
        granted, granted_due = f"{granted} JOIN taken ON taken.id = granted.id", "taken.due"
    return text(f"""
    WITH p AS MATERIALIZED (
        SELECT {project}, {CLEANED} AS cleaned, CAST(:env AS text) AS env, CAST(:domain AS text) AS domain
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
    {kept}
    ahead AS MATERIALIZED (
        {walk("> (:project_id, :env, :domain, :hand)", "<= (:project_id, :env, :domain, :last)")}
        LIMIT :total
    ),
    behind AS MATERIALIZED (
        {walk(">= (:project_id, :env, :domain, :first)", "< (:project_id, :env, :domain, :hand)")}
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
    {claimed}
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
        FROM moment, p, wanted AS w JOIN fit ON fit.id = w.id {"JOIN claimed ON claimed.id = w.id" if claimed else ""},
             LATERAL (SELECT {GRANTED_TTL.format(ttl="w.ttl")} AS ttl) AS granted,
             LATERAL (SELECT {requested_at} AS at) AS asked
        ORDER BY w.principal, w.idempotency_key
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, fence, user_ids, acquired_at, expires_at, ttl_seconds, hold_until, requested_at, waited,
                  xmin AS row_version
    ),
    {used}
    lease_users AS (
        INSERT INTO lease_users (user_id, fence, due)
        SELECT granted.id, l.fence, {granted_due} FROM l, {granted}
    ),
    u AS (
        UPDATE users AS u SET locktime = l.acquired_at, expires_at = l.expires_at,
               lease_id = l.id, fence = l.fence, purpose = :purpose,
               available_at = greatest(l.expires_at + make_interval(secs => p.lock_delay),
                                       l.acquired_at + make_interval(secs => p.login_gap)),
               {settled}
        FROM l, p, {granted}
        WHERE u.id = granted.id
        RETURNING u.id, u.login, u.password, u.secrets, u.totp_seed, u.labels, u.lease_id, u.pending_password,
                  {granted_due} AS due
    )
    SELECT l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.row_version,
           l.requested_at, l.waited, p.name AS project_name,
           extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
           u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels, u.due,
           CASE WHEN :purpose <> 'test' THEN u.pending_password END AS pending_password
    FROM p, l JOIN u ON u.lease_id = l.id ORDER BY u.id""")


_KEEPERS_WAIT = (
    f"EXISTS (SELECT FROM {TICKETS} WHERE {OF_POOL.format('t')} AND t.purpose = 'chore' AND {LIVE_TICKET})"
)

_TEST = {
    "project": "p.id, p.name, p.default_ttl, p.max_ttl, p.max_hold, p.lock_delay, p.login_gap, p.count_expired",
    "users": "users AS u",
    "settled": TEST_SETTLED,
}
_FREE = f"({free_at('(SELECT cleaned FROM p)')}) {BY_NOW}"
_CHORE_STATUS = f"CASE WHEN '{Due.CLEAN}' = ANY (taken.due) THEN 'dirty' ELSE 'active' END"
_CHORE = {
    "project": "p.*",
    "users": f"users AS u CROSS JOIN p CROSS JOIN {CLOCK}",
    "due": DUE,
    "kept": KEPT,
    "settled": f"{SETTLED}, {with_status(_CHORE_STATUS, 'l.acquired_at')}",
}
# A user that is not dirty goes to a test that waits, not to a keeper.
_DUE = f"({CHORE_AT}) {BY_NOW} AND ({IS_DIRTY} OR ({NOT_KEPT}))"
# A waiting request is granted by the statement that also deletes its ticket, so that a wait that is over is
# never granted. The ticket stays where its key has a lease already, which is then given to the request.
_CLAIMED = {
    "claimed": """
    claimed AS MATERIALIZED (
        SELECT wanted.id, tickets.id AS ticket, tickets.arrived_at
        FROM tickets JOIN wanted ON tickets.id = wanted.ticket JOIN fit ON fit.id = wanted.id
        WHERE tickets.replica = :replica AND tickets.deadline > clock_timestamp()
        FOR UPDATE OF tickets
    ),""",
    "used": """
    used AS (DELETE FROM tickets USING claimed, l WHERE tickets.id = claimed.ticket AND claimed.id = l.id),""",
    "requested_at": "claimed.arrived_at",
}
_AT_ONCE = {"requested_at": "now - make_interval(secs => w.since)"}
# A request that does not wait does not overtake the queue.
GRANT = _grant(**_TEST, kept=KEPT, unless=f"{_FREE} AND {NOT_KEPT}", **_AT_ONCE)
GRANT_TICKETS = _grant(**_TEST, unless=_FREE, **_CLAIMED)
GRANT_FIRST_TICKET = _grant(**_TEST, unless=f"{_FREE} AND {IS_FIRST}", **_CLAIMED)
GRANT_CHORES = _grant(**_CHORE, unless=f"{_DUE} AND NOT {_KEEPERS_WAIT}", **_AT_ONCE)
GRANT_CHORE_TICKETS = _grant(**_CHORE, unless=_DUE, **_CLAIMED)
GRANT_FIRST_CHORE_TICKET = _grant(**_CHORE, unless=f"{_DUE} AND {IS_FIRST}", **_CLAIMED)

GRANTS = {
    Purpose.TEST: GRANT,
    Purpose.HOLD: GRANT,  # gets what a test would get
    Purpose.CHORE: GRANT_CHORES,
}
GRANTS_OF_TICKETS = {
    Purpose.TEST: (GRANT_TICKETS, GRANT_FIRST_TICKET),
    Purpose.CHORE: (GRANT_CHORE_TICKETS, GRANT_FIRST_CHORE_TICKET),
}
