"""The statement that grants one user by its id; users of a pool: pool_grant_queries.py."""

import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import CREDENTIALS, LEASE_COLUMNS, lease_from_rows
from botfarm.db.leasing.pool_grant_queries import FREE, GRANTED_TTL
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Principal
from botfarm.domain.leases import Lease, LeaseOperation, LeaseTerms

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
               CAST(:idempotency_key AS text), CAST(:fingerprint AS bytea),
               CAST(:address AS text), CAST(:request_id AS text)
        FROM moment, p
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING *, xmin AS row_version
    ),
    u AS (
        UPDATE users SET locktime = l.acquired_at, expires_at = l.expires_at,
               lease_id = l.id, fence = l.fence,
               available_at = l.expires_at + make_interval(secs => p.lock_delay)
        FROM l, p, unnest(l.user_ids) AS granted (id)
        WHERE users.id = granted.id
        RETURNING users.*
    )
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}, l.row_version FROM l, p, u ORDER BY u.id"""

GRANT_USER = text(f"""
    WITH p AS MATERIALIZED (
        SELECT p.*, {GRANTED_TTL.format(ttl="CAST(:ttl AS integer)")} AS ttl, users.env, users.domain
        FROM projects AS p JOIN users ON users.project_id = p.id WHERE users.id = :user_id
    ),
    taken AS MATERIALIZED (
        SELECT u.id FROM users AS u WHERE u.id = :user_id AND {FREE} AND {within("u")} FOR UPDATE SKIP LOCKED
    ),
    {_GRANT}""")


async def grant_user(
    session: AsyncSession, principal: Principal, user_id: UUID, terms: LeaseTerms, *, latest: datetime | None
) -> Lease | None:
    """Grants the user of the principal's scope. `latest` is the latest time to believe the clock.

    None when the user is not free, is locked by another statement, or the idempotency key is taken.
    """
    parameters = {
        "user_id": user_id,
        "count": 1,
        "latest": latest,
        "ttl": terms.ttl_seconds,
        "principal": principal.name,
        "operation": LeaseOperation.ACQUIRE_LOCK.value,
        "owner": terms.owner,
        "metadata": json.dumps(dict(terms.metadata)),
        "idempotency_key": terms.idempotency_key,
        "fingerprint": terms.fingerprint,
        "address": principal.address,
        "request_id": principal.request_id,
        **scope_parameters(principal.scope),
    }
    return lease_from_rows(await session.execute(GRANT_USER, parameters))
