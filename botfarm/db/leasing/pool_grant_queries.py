"""The statement that grants users of a pool: to one request or to a batch, a lease for each request.

It is one statement, so it commits or fails as a whole. `taken` locks as many free users as all requests
together want. `fit` are the first requests for which these users are enough; the other requests get none.
`FOR UPDATE SKIP LOCKED` stands in a MATERIALIZED CTE, never in a subquery of IN, because that may be scanned
again for each outer row, and then locks and takes more users than its LIMIT.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import TextClause, text

from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.waiting.ticket_queries import LIVE_TICKET, TICKETS
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import Lease, LeasedUser, LeaseOperation, LeaseRequest
from botfarm.domain.pools import Pool

GRANTED_TTL = "least(coalesce({ttl}, p.default_ttl), p.max_ttl, p.max_hold)"
"""The TTL in seconds that is granted to a request for `ttl` seconds, or null, by the project `p`."""

# A clock that was stepped forward frees no user: `latest` is the latest time it can show unless it was
# stepped, or null, which `least` ignores.
FREE = "u.status = 'active' AND u.available_at <= least(clock_timestamp(), CAST(:latest AS timestamptz))"

_FIRST, _LAST = (f"CAST('{UUID(int=number)}' AS uuid)" for number in (0, 2**128 - 1))


# The hand of a clock goes round the pool: users `ahead` of it come first, then those from the start. So users
# are leased in rotation, and the users that were leased just before are not read again. Both steps walk
# ix_users_pool in its own order, without a sort, between two rows. With `u.id > :hand` the planner takes the
# primary key as soon as its statistics know only one pool, and then walks past every user of later pools.
# With `u.project_id = :project_id` beside the row comparison it starts at the first user of the pool, not at
# the hand, because it prefers an equality to find the start and then uses the row comparison only as a
# filter. The clock is read after the users are locked, so a lease never starts before it could be granted.
def _grant(*, unless: str = "true", claimed: str = "", of_claimed: str = "") -> TextClause:
    return text(f"""
    WITH p AS MATERIALIZED (
        SELECT projects.*, CAST(:env AS text) AS env, CAST(:domain AS text) AS domain
        FROM projects WHERE projects.id = :project_id
    ),
    wanted AS MATERIALIZED (
        SELECT w.*, sum(w.count) OVER (ORDER BY w.position) AS upto
        FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:counts AS integer[]), CAST(:ttls AS integer[]),
                    CAST(:principals AS text[]), CAST(:owners AS text[]), CAST(:metadata AS text[]),
                    CAST(:idempotency_keys AS text[]), CAST(:fingerprints AS bytea[]),
                    CAST(:addresses AS text[]), CAST(:request_ids AS text[]),
                    CAST(:tickets AS bigint[])) WITH ORDINALITY
             AS w (id, count, ttl, principal, owner, metadata, idempotency_key, fingerprint,
                   address, request_id, ticket, position)
    ),
    ahead AS MATERIALIZED (
        SELECT u.id FROM users AS u
        WHERE (u.project_id, u.env, u.domain, u.id) > (:project_id, :env, :domain, :hand)
          AND (u.project_id, u.env, u.domain, u.id) <= (:project_id, :env, :domain, {_LAST})
          AND {FREE} AND u.labels @> CAST(:labels AS jsonb) AND {unless}
        ORDER BY u.project_id, u.env, u.domain, u.id
        LIMIT :total FOR UPDATE SKIP LOCKED
    ),
    behind AS MATERIALIZED (
        SELECT u.id FROM users AS u
        WHERE (u.project_id, u.env, u.domain, u.id) >= (:project_id, :env, :domain, {_FIRST})
          AND (u.project_id, u.env, u.domain, u.id) < (:project_id, :env, :domain, :hand)
          AND {FREE} AND u.labels @> CAST(:labels AS jsonb) AND {unless}
        ORDER BY u.project_id, u.env, u.domain, u.id
        LIMIT :total - (SELECT count(*) FROM ahead) FOR UPDATE SKIP LOCKED
    ),
    taken AS MATERIALIZED (
        SELECT id, row_number() OVER () AS place
        FROM (SELECT id FROM ahead UNION ALL SELECT id FROM behind) AS both_ways
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
        INSERT INTO leases (id, fence, principal, operation, owner, project_id, env, domain, user_ids,
                            metadata, acquired_at, expires_at, ttl_seconds, hold_until,
                            idempotency_key, fingerprint, address, request_id)
        SELECT w.id, nextval('fence'), w.principal, 'acquire_lease', w.owner, p.id, p.env, p.domain,
               fit.user_ids, CAST(w.metadata AS jsonb), now, now + make_interval(secs => granted.ttl),
               granted.ttl, now + make_interval(secs => p.max_hold),
               w.idempotency_key, w.fingerprint, w.address, w.request_id
        FROM moment, p, wanted AS w JOIN fit ON fit.id = w.id {of_claimed},
             LATERAL (SELECT {GRANTED_TTL.format(ttl="w.ttl")} AS ttl) AS granted
        ORDER BY w.principal, w.idempotency_key
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, fence, user_ids, acquired_at, expires_at, ttl_seconds, hold_until, xmin AS row_version
    ),
    u AS (
        UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at,
               lease_id = l.id, fence = l.fence,
               available_at = l.expires_at + make_interval(secs => p.lock_delay)
        FROM l, p, unnest(l.user_ids) AS granted (id)
        WHERE users.id = granted.id
        RETURNING users.id, users.login, users.password, users.secrets, users.totp_seed, users.labels,
                  users.lease_id
    )
    SELECT l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.row_version,
           p.name AS project_name,
           extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
           u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels
    FROM p, l JOIN u ON u.lease_id = l.id ORDER BY u.id""")


_QUEUE = f"EXISTS (SELECT FROM {TICKETS} WHERE {OF_POOL.format('t')} AND {LIVE_TICKET})"
# A request that does not wait does not overtake the queue. PostgreSQL evaluates this once, because it depends
# on no user.
GRANT = _grant(unless=f"NOT {_QUEUE}")
# A waiting request is granted by the statement that also deletes its ticket, so that a wait that is over is
# never granted.
GRANT_TICKETS = _grant(
    claimed="""
    claimed AS (
        DELETE FROM tickets USING wanted, fit
        WHERE tickets.id = wanted.ticket AND fit.id = wanted.id AND tickets.replica = :replica
          AND tickets.deadline > clock_timestamp()
        RETURNING wanted.id
    ),""",
    of_claimed="JOIN claimed ON claimed.id = w.id",
)


def hand_after(user_id: UUID) -> UUID:
    """The position just after this user.

    It is on no user, because users have UUID version 4 and a hand has version 15.
    """
    return UUID(int=user_id.int | 0xF << 76)


async def grant_from_pool(
    executor: Executor,
    requests: Sequence[LeaseRequest],
    *,
    tickets: Sequence[int] | None,
    hand: UUID,
    replica: UUID,
    latest: datetime | None,
) -> list[Lease | None]:
    """Grants a batch of requests for one pool and one set of labels.

    Returns a lease or None for each request, in their order.
    `tickets` are the ids of the requests' tickets, of this replica; None for requests that did not wait.
    `hand` is where to start, see `hand_after`. `latest` is the latest time to believe the clock.

    None for a request that found too few users, that other requests wait in front of, whose ticket is gone,
    or whose idempotency key is taken.
    """
    lease_ids = [uuid4() for _ in requests]
    parameters = _parameters(requests, lease_ids, tickets, hand=hand, latest=latest)
    statement = GRANT
    if tickets is not None:
        statement, parameters["replica"] = GRANT_TICKETS, replica
    rows: dict[UUID, list[Any]] = {}
    for row in await executor.execute(statement, parameters):
        rows.setdefault(row.id, []).append(row)
    return [
        _lease(rows[lease_id], request) if lease_id in rows else None
        for lease_id, request in zip(lease_ids, requests, strict=True)
    ]


def _parameters(
    requests: Sequence[LeaseRequest],
    lease_ids: Sequence[UUID],
    tickets: Sequence[int] | None,
    *,
    hand: UUID,
    latest: datetime | None,
) -> dict[str, object]:
    terms = [each.terms for each in requests]
    return {
        **pool_parameters(requests[0].pool),
        "labels": json.dumps(dict(requests[0].labels)),
        "hand": hand,
        "latest": latest,
        "total": sum(each.count for each in requests),
        "lease_ids": lease_ids,
        "counts": [each.count for each in requests],
        "ttls": [each.ttl_seconds for each in terms],
        "principals": [each.principal.name for each in requests],
        "owners": [each.owner for each in terms],
        "metadata": [json.dumps(dict(each.metadata)) if each.metadata else "{}" for each in terms],
        "idempotency_keys": [each.idempotency_key for each in terms],
        "fingerprints": [each.fingerprint for each in terms],
        "addresses": [each.principal.address for each in requests],
        "request_ids": [each.principal.request_id for each in requests],
        "tickets": tickets or [None] * len(requests),
    }


def _lease(rows: Sequence[Any], request: LeaseRequest) -> Lease:
    row, pool, terms = rows[0], request.pool, request.terms
    return Lease(
        id=row.id,
        fence=row.fence,
        principal=request.principal.name,
        operation=LeaseOperation.ACQUIRE_LEASE,
        owner=terms.owner,
        pool=pool,
        project_name=row.project_name,
        metadata=terms.metadata,
        acquired_at=row.acquired_at,
        expires_at=row.expires_at,
        expires_in=round(row.expires_in, 3),
        ttl_seconds=row.ttl_seconds,
        hold_until=row.hold_until,
        ended_at=None,
        ended_by=None,
        outcome=None,
        note=None,
        fingerprint=terms.fingerprint,
        users=tuple(_leased_user(each, pool) for each in rows),
        row_version=row.row_version,
    )


def _leased_user(row: Any, pool: Pool) -> LeasedUser:
    return LeasedUser(
        id=row.user_id,
        login=row.login,
        pool=pool,
        locktime=row.acquired_at,
        labels=row.labels,
        sealed=SealedCredentials(row.password, row.secrets, row.totp_seed),
    )
