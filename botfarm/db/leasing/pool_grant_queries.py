"""Grants users of a pool with one of the statements of pool_grant_statements.py."""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from botfarm.db.leasing.pool_grant_statements import GRANTS, GRANTS_OF_TICKETS
from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.pool_filter import pool_parameters
from botfarm.db.shared.wanted_users import label_parameters, user_range
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import Due, Lease, LeasedUser, LeaseOperation, LeaseRequest
from botfarm.domain.pools import Pool

_WHOLE_POOL = {"first": UUID(int=0), "last": UUID(int=2**128 - 1)}


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
    if_first: bool = False,
    hand: UUID,
    replica: UUID,
    latest: datetime | None,
) -> list[Lease | None]:
    """Grants a batch of requests for the same users of one pool, and for one purpose.

    Returns a lease or None for each request, in their order.
    `tickets` are the ids of the requests' tickets, of this replica; None for requests that did not wait.
    With `if_first` it is one ticket, which is granted only while no other stands before it in the queue.
    `hand` is where to start, see `hand_after`. `latest` is the latest time to believe the clock.

    None for a request that found too few users, that other requests wait in front of, whose ticket is gone,
    or whose idempotency key is taken.
    """
    lease_ids = [uuid4() for _ in requests]
    parameters = _parameters(requests, lease_ids, tickets, hand=hand, latest=latest)
    purpose = requests[0].purpose
    if tickets is None:
        statement = GRANTS[purpose]
    else:
        statement = GRANTS_OF_TICKETS[purpose][if_first]
        parameters |= {"replica": replica, "ticket": tickets[0]}
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
    terms, user_id = [each.terms for each in requests], requests[0].user_id
    now = time.monotonic()
    return {
        "purpose": requests[0].purpose.value,
        **pool_parameters(requests[0].pool),
        **label_parameters(requests[0].labels),
        **({**_WHOLE_POOL, "hand": hand} if user_id is None else user_range(user_id)),
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
        "priorities": [each.priority for each in requests],
        "wait_seconds": [each.wait_seconds for each in requests],
        "since": [max(0.0, now - each.received_at) for each in requests],
        "notes": [each.note for each in terms],
        "tickets": tickets or [None] * len(requests),
    }


def _lease(rows: Sequence[Any], request: LeaseRequest) -> Lease:
    row, pool, terms = rows[0], request.pool, request.terms
    return Lease(
        id=row.id,
        fence=row.fence,
        principal=request.principal.name,
        operation=LeaseOperation.ACQUIRE_LEASE,
        purpose=request.purpose,
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
        reason=None,
        note=terms.note,
        fingerprint=terms.fingerprint,
        users=tuple(_leased_user(each, pool) for each in rows),
        requested_at=row.requested_at,
        labels=request.labels,
        waited=round(row.waited, 3),
        row_version=row.row_version,
    )


def _leased_user(row: Any, pool: Pool) -> LeasedUser:
    return LeasedUser(
        id=row.user_id,
        login=row.login,
        pool=pool,
        locktime=row.acquired_at,
        labels=row.labels,
        sealed=SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password),
        due=tuple(map(Due, row.due or ())),
    )
