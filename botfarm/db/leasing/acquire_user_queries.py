"""The statement that hands out a user by its id, and what is asked when nobody can be handed out; pools: batch_queries.py."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import CREDENTIALS, LEASE_COLUMNS, lease_from_rows
from botfarm.db.shared.scopes import scope_parameters, within
from botfarm.db.shared.user_state import CLOCK, POOL_COUNTS
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import LIVE_TICKET, OF_POOL, TICKETS
from botfarm.domain.access import Scope
from botfarm.domain.leases import Lease, LeaseOperation
from botfarm.domain.pools import Pool, PoolCounts


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a new lease says, whichever users it gets."""

    principal: str
    ttl_seconds: int | None
    owner: str | None
    metadata: Mapping[str, object]
    idempotency_key: str | None
    fingerprint: bytes | None
    address: str | None
    request_id: str | None


POLICY = "least(coalesce({ttl}, p.default_ttl), p.max_ttl, p.max_hold)"
"""The TTL that is granted to who asks for `ttl` seconds, or null, of a user of the project `p`."""

# A clock that was stepped forward frees nobody: `latest` is what it can show by itself, or null, which `least` ignores.
FREE = "u.status = 'active' AND u.available_at <= least(clock_timestamp(), CAST(:latest AS timestamptz))"

# The clock is read after the users are locked, so a lease never starts before it could be granted.
_GRANT = f"""
    moment AS MATERIALIZED (SELECT clock_timestamp() AS now WHERE (SELECT count(*) FROM taken) = :count),
    l AS (
        INSERT INTO leases (fence, principal, operation, owner, project_id, env, domain, user_ids, metadata,
                            acquired_at, expires_at, ttl_seconds, hold_until, idempotency_key, fingerprint,
                            address, request_id)
        SELECT nextval('fence'), :principal, :operation, CAST(:owner AS text), p.id, p.env, p.domain,
               (SELECT array_agg(taken.id ORDER BY taken.id) FROM taken), CAST(:metadata AS jsonb),
               now, now + make_interval(secs => p.ttl), p.ttl, now + make_interval(secs => p.max_hold),
               CAST(:idempotency_key AS text), CAST(:fingerprint AS bytea), CAST(:address AS text), CAST(:request_id AS text)
        FROM moment, p
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING *, xmin AS row_version
    ),
    u AS (
        UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at, lease_id = l.id, fence = l.fence,
               available_at = l.expires_at + make_interval(secs => p.lock_delay)
        FROM l, p, unnest(l.user_ids) AS granted (id)
        WHERE users.id = granted.id
        RETURNING users.*
    )
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}, l.row_version FROM l, p, u ORDER BY u.id"""

ACQUIRE_USER = text(f"""
    WITH p AS MATERIALIZED (
        SELECT p.*, {POLICY.format(ttl="CAST(:ttl AS integer)")} AS ttl, users.env, users.domain
        FROM projects AS p JOIN users ON users.project_id = p.id WHERE users.id = :user_id
    ),
    taken AS MATERIALIZED (
        SELECT u.id FROM users AS u WHERE u.id = :user_id AND {FREE} AND {within("u")} FOR UPDATE SKIP LOCKED
    ),
    {_GRANT}""")

ADVISORY_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")

COUNT_HELD = text("""
    SELECT sum(cardinality(user_ids)) FROM leases
    WHERE principal = :principal AND ended_at IS NULL AND expires_at > clock_timestamp()""")

LEASE_BY_KEY = text(f"""
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}
    FROM leases AS l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN users AS u ON u.id = ANY (l.user_ids)
    WHERE l.principal = :principal AND l.idempotency_key = :idempotency_key
    ORDER BY u.id""")

COUNT_POOL = text(f"""
    SELECT {POOL_COUNTS},
           (SELECT count(*) FROM {TICKETS} WHERE {OF_POOL.format("t")} AND {LIVE_TICKET}) AS waiting
    FROM users AS u, {CLOCK} WHERE {OF_POOL.format("u")} AND u.labels @> CAST(:labels AS jsonb)""")


def hand_after(user_id: UUID) -> UUID:
    """Just behind this user and on no user: ours are of UUID version 4, a hand is of version 15."""
    return UUID(int=user_id.int | 0xF << 76)


async def acquire_user(
    session: AsyncSession, user_id: UUID, scope: Scope, *, terms: LeaseTerms, latest: datetime | None
) -> Lease | None:
    """`latest` is the latest moment to believe the clock. None when the user is not free, is locked by a statement under way, or the idempotency key is taken."""
    parameters = {
        "user_id": user_id,
        "count": 1,
        "latest": latest,
        **_term_parameters(terms, LeaseOperation.ACQUIRE_LOCK),
        **scope_parameters(scope),
    }
    return lease_from_rows(await session.execute(ACQUIRE_USER, parameters))


async def lock_pool(session: AsyncSession, pool: Pool) -> None:
    """Makes the others that lock this pool wait until this transaction ends; plain acquires go on."""
    await session.execute(ADVISORY_LOCK, {"name": f"{pool.project_id}/{pool.env}/{pool.domain}"})


async def lock_principal(session: AsyncSession, principal: str) -> None:
    """Makes the others that lock this principal wait until this transaction ends: its quota is counted by one of them."""
    await session.execute(ADVISORY_LOCK, {"name": f"principal/{principal}"})


async def count_held(session: AsyncSession, principal: str) -> int:
    """Users in live leases of the principal. A statement of its own after `lock_principal`, else its snapshot is older."""
    return int(await session.scalar(COUNT_HELD, {"principal": principal}) or 0)


async def lease_by_key(session: AsyncSession, principal: str, idempotency_key: str) -> Lease | None:
    parameters = {"principal": principal, "idempotency_key": idempotency_key}
    return lease_from_rows(await session.execute(LEASE_BY_KEY, parameters))


async def count_pool(session: AsyncSession, pool: Pool, *, labels: Mapping[str, str]) -> PoolCounts:
    """The users that match the labels, and all who wait in the pool, whatever they wait for."""
    counts = (await session.execute(COUNT_POOL, pool_parameters(pool, labels))).mappings().one()
    return PoolCounts(**counts)


def pool_parameters(pool: Pool, labels: Mapping[str, str]) -> dict[str, object]:
    return {**ticket_queries.pool_parameters(pool), "labels": json.dumps(dict(labels))}


def _term_parameters(terms: LeaseTerms, operation: LeaseOperation) -> dict[str, object]:
    return {
        "ttl": terms.ttl_seconds,
        "principal": terms.principal,
        "operation": operation.value,
        "owner": terms.owner,
        "metadata": json.dumps(dict(terms.metadata)),
        "idempotency_key": terms.idempotency_key,
        "fingerprint": terms.fingerprint,
        "address": terms.address,
        "request_id": terms.request_id,
    }
