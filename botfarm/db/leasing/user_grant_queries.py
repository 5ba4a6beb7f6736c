"""The statement that grants one user by its id; users of a pool: pool_grant_queries.py."""

import json
from datetime import datetime
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import CREDENTIALS, LEASE_COLUMNS, lease_from_rows
from botfarm.db.leasing.pool_grant_statements import BY_NOW, GRANTED_TTL
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLEANED, SETTLED, STATUS, free_at, is_unclean, with_status
from botfarm.db.waiting.live_tickets import LIVE_TICKET, TICKETS
from botfarm.domain.access import Principal
from botfarm.domain.leases import Lease, LeaseOperation, LeaseTerms, Purpose

# A test does not overtake another one that waits for this very user.
_FREE = f"""({free_at("(SELECT cleaned FROM p)")}) {BY_NOW}
          AND NOT EXISTS (SELECT FROM {TICKETS} WHERE t.user_id = u.id AND {LIVE_TICKET})"""
# A person may look at a user that tests do not get, once its last holder has lost it. It does not matter whether a
# worker has seen that.
_HELD_BY_NOBODY = f"""(u.locktime IS NULL OR u.expires_at {BY_NOW}) AND u.status <> 'retired'
          AND (u.status <> 'active' OR {is_unclean("(SELECT cleaned FROM p)")} OR u.available_at {BY_NOW})"""


# The clock is read after the user is locked, so a lease never starts before it could be granted.
def _grant(*, free: str, status: str) -> TextClause:
    return text(f"""
    WITH p AS MATERIALIZED (
        SELECT p.*, {CLEANED} AS cleaned, {GRANTED_TTL.format(ttl="CAST(:ttl AS integer)")} AS ttl,
               users.env, users.domain
        FROM projects AS p JOIN users ON users.project_id = p.id WHERE users.id = :user_id
    ),
    taken AS MATERIALIZED (
        SELECT u.id FROM users AS u
        WHERE u.id = :user_id AND {free} AND {within("u")} FOR UPDATE SKIP LOCKED
    ),
    c AS MATERIALIZED (SELECT clock_timestamp() AS now FROM taken),
    l AS (
        INSERT INTO leases (fence, principal, operation, purpose, owner, project_id, env, domain, user_ids,
                            metadata, acquired_at, expires_at, ttl_seconds, hold_until, idempotency_key,
                            fingerprint, address, request_id, note,
                            requested_at, waited, labels, priority, wait_seconds)
        SELECT nextval('fence'), :principal, :operation, :purpose, CAST(:owner AS text), p.id, p.env, p.domain,
               ARRAY[taken.id], CAST(:metadata AS jsonb), now, now + make_interval(secs => p.ttl), p.ttl,
               now + make_interval(secs => p.max_hold), CAST(:idempotency_key AS text),
               CAST(:fingerprint AS bytea), CAST(:address AS text), CAST(:request_id AS text),
               CAST(:note AS text), now, 0, '{{}}', 0, 0
        FROM taken, c, p
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING *, xmin AS row_version
    ),
    lease_users AS (
        INSERT INTO lease_users (user_id, fence) SELECT taken.id, l.fence FROM l, taken
    ),
    u AS (
        UPDATE users AS u SET locktime = l.acquired_at, expires_at = l.expires_at,
               lease_id = l.id, fence = l.fence, purpose = :purpose,
               available_at = greatest(l.expires_at + make_interval(secs => p.lock_delay),
                                       l.acquired_at + make_interval(secs => p.login_gap)),
               {SETTLED}, {with_status(status, "c.now")}
        FROM l, p, c, taken
        WHERE u.id = taken.id
        RETURNING u.*
    )
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}, l.row_version FROM l, p, u""")


GRANT_USER = _grant(free=_FREE, status="'active'")
HOLD_USER = _grant(free=_HELD_BY_NOBODY, status=f"({STATUS})")


async def grant_user(
    session: AsyncSession,
    principal: Principal,
    user_id: UUID,
    terms: LeaseTerms,
    *,
    purpose: Purpose,
    operation: LeaseOperation,
    latest: datetime | None,
) -> Lease | None:
    """Grants the user of the principal's scope. `latest` is the latest time to believe the clock.

    None when a test may not have the user, or a hold meets another lease; when the user is locked by another
    statement, or the idempotency key is taken.
    """
    parameters = {
        "user_id": user_id,
        "latest": latest,
        "ttl": terms.ttl_seconds,
        "principal": principal.name,
        "operation": operation.value,
        "purpose": purpose.value,
        "note": terms.note,
        "owner": terms.owner,
        "metadata": json.dumps(dict(terms.metadata)),
        "idempotency_key": terms.idempotency_key,
        "fingerprint": terms.fingerprint,
        "address": principal.address,
        "request_id": principal.request_id,
        **scope_parameters(principal.scope),
    }
    return lease_from_rows(
        await session.execute(HOLD_USER if purpose is Purpose.HOLD else GRANT_USER, parameters)
    )
