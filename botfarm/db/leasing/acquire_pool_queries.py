"""The statement that hands out users of a pool: to one request or to many at once, each with a lease of its own.

It is one statement, so it commits or fails as a whole. `taken` locks as many free users as all requests together want, and
`fit` are the first of them that these are enough for; who does not fit gets nothing. `FOR UPDATE SKIP LOCKED` inside a
MATERIALIZED CTE, never in a subquery of IN: that one may be scanned again for each outer row and then locks and takes
more than its LIMIT.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from botfarm.db.leasing.acquire_user_queries import FREE, POLICY, LeaseTerms, pool_parameters
from botfarm.db.postgres.driver import Executor
from botfarm.db.waiting.ticket_queries import LIVE_TICKET, OF_POOL, TICKETS
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import Lease, LeasedUser, LeaseOperation
from botfarm.domain.pools import Pool

_FIRST, _LAST = (f"CAST('{UUID(int=number)}' AS uuid)" for number in (0, 2**128 - 1))


# The hand of a clock goes round the pool: `ahead` of it first, then from the start. So users take turns, and the
# users leased just before are not looked at again. Both walk ix_users_pool in its own order, without a sort, between two
# rows. With `u.id > :hand` the planner takes the primary key as soon as its statistics know one pool only, and then walks
# past every user of the pools that come later. And with `u.project_id = :project_id` beside the row it starts at the
# first user of the pool, not at the hand: an equality is preferred to find the start, the row is then only a filter.
# The clock is read after the users are locked, so a lease never starts before it could be granted.
def _acquire(*, unless: str = "true", claimed: str = "", of_claimed: str = "") -> TextClause:
    return text(f"""
    WITH p AS MATERIALIZED (
        SELECT projects.*, CAST(:env AS text) AS env, CAST(:domain AS text) AS domain
        FROM projects WHERE projects.id = :project_id
    ),
    wanted AS MATERIALIZED (
        SELECT w.*, sum(w.count) OVER (ORDER BY w.position) AS upto
        FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:counts AS integer[]), CAST(:ttls AS integer[]),
                    CAST(:principals AS text[]), CAST(:owners AS text[]), CAST(:metadata AS text[]),
                    CAST(:idempotency_keys AS text[]), CAST(:fingerprints AS bytea[]), CAST(:addresses AS text[]),
                    CAST(:request_ids AS text[]), CAST(:tickets AS bigint[])) WITH ORDINALITY
             AS w (id, count, ttl, principal, owner, metadata, idempotency_key, fingerprint, address, request_id, ticket, position)
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
        SELECT id, row_number() OVER () AS place FROM (SELECT id FROM ahead UNION ALL SELECT id FROM behind) AS both_ways
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
        INSERT INTO leases (id, fence, principal, operation, owner, project_id, env, domain, user_ids, metadata,
                            acquired_at, expires_at, ttl_seconds, hold_until, idempotency_key, fingerprint,
                            address, request_id)
        SELECT w.id, nextval('fence'), w.principal, 'acquire_lease', w.owner, p.id, p.env, p.domain, fit.user_ids,
               CAST(w.metadata AS jsonb), now, now + make_interval(secs => granted.ttl), granted.ttl,
               now + make_interval(secs => p.max_hold), w.idempotency_key, w.fingerprint, w.address, w.request_id
        FROM moment, p, wanted AS w JOIN fit ON fit.id = w.id {of_claimed}, LATERAL (SELECT {POLICY.format(ttl="w.ttl")} AS ttl) AS granted
        ORDER BY w.principal, w.idempotency_key
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING id, fence, user_ids, acquired_at, expires_at, ttl_seconds, hold_until, xmin AS row_version
    ),
    u AS (
        UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at, lease_id = l.id, fence = l.fence,
               available_at = l.expires_at + make_interval(secs => p.lock_delay)
        FROM l, p, unnest(l.user_ids) AS granted (id)
        WHERE users.id = granted.id
        RETURNING users.id, users.login, users.password, users.secrets, users.totp_seed, users.labels, users.lease_id
    )
    SELECT l.id, l.fence, l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.row_version, p.name AS project_name,
           extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
           u.id AS user_id, u.login, u.password, u.secrets, u.totp_seed, u.labels
    FROM p, l JOIN u ON u.lease_id = l.id ORDER BY u.id""")


_LINE = f"EXISTS (SELECT FROM {TICKETS} WHERE {OF_POOL.format('t')} AND {LIVE_TICKET})"
# Who does not wait does not overtake who does. Asked once for a statement: it depends on no user.
ACQUIRE = _acquire(unless=f"NOT {_LINE}")
# Who waits is granted by the statement that also deletes the ticket, so that a wait which is over is never granted.
ACQUIRE_TICKETS = _acquire(
    claimed="""
    claimed AS (
        DELETE FROM tickets USING wanted, fit
        WHERE tickets.id = wanted.ticket AND fit.id = wanted.id AND tickets.replica = :replica
          AND tickets.deadline > clock_timestamp()
        RETURNING wanted.id
    ),""",
    of_claimed="JOIN claimed ON claimed.id = w.id",
)


@dataclass(frozen=True, slots=True)
class WantedLease:
    """A request as a batch takes it."""

    lease_id: UUID
    """Of the lease that comes of it."""
    count: int
    terms: LeaseTerms
    ticket_id: int | None = None
    """Of a request that waited. A batch has only such, or none."""


async def acquire_batch(
    executor: Executor,
    pool: Pool,
    wanted: Sequence[WantedLease],
    *,
    labels: Mapping[str, str],
    hand: UUID,
    replica: UUID,
    latest: datetime | None,
) -> dict[UUID, Lease]:
    """Leases by the ids of their requests; the hand: `hand_after`; `latest` is the latest moment to believe the clock.

    None for those that found too few users, that others wait in front of, whose ticket is gone, or whose key is taken.
    """
    parameters = _parameters(pool, wanted, labels=labels, hand=hand, latest=latest)
    statement = ACQUIRE
    if wanted[0].ticket_id is not None:
        statement, parameters["replica"] = ACQUIRE_TICKETS, replica
    rows: dict[UUID, list[Any]] = {}
    for row in await executor.execute(statement, parameters):
        rows.setdefault(row.id, []).append(row)
    return {
        each.lease_id: _lease(rows[each.lease_id], pool, each.terms)
        for each in wanted
        if each.lease_id in rows
    }


def _parameters(
    pool: Pool,
    wanted: Sequence[WantedLease],
    *,
    labels: Mapping[str, str],
    hand: UUID,
    latest: datetime | None,
) -> dict[str, object]:
    terms = [each.terms for each in wanted]
    return {
        **pool_parameters(pool, labels),
        "hand": hand,
        "latest": latest,
        "total": sum(each.count for each in wanted),
        "lease_ids": [each.lease_id for each in wanted],
        "counts": [each.count for each in wanted],
        "ttls": [each.ttl_seconds for each in terms],
        "principals": [each.principal for each in terms],
        "owners": [each.owner for each in terms],
        "metadata": [json.dumps(dict(each.metadata)) if each.metadata else "{}" for each in terms],
        "idempotency_keys": [each.idempotency_key for each in terms],
        "fingerprints": [each.fingerprint for each in terms],
        "addresses": [each.address for each in terms],
        "request_ids": [each.request_id for each in terms],
        "tickets": [each.ticket_id for each in wanted],
    }


def _lease(rows: Sequence[Any], pool: Pool, terms: LeaseTerms) -> Lease:
    row = rows[0]
    return Lease(
        id=row.id,
        fence=row.fence,
        principal=terms.principal,
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
