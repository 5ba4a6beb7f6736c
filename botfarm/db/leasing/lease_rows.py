"""The columns that every lease statement returns, one row for each user of a lease, and the leases made of them.

In each statement the lease is `l`, its project `p` (absent when deleted) and its users `u` (absent when
deleted).
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from sqlalchemy import Row

from botfarm.db.shared.wanted_users import all_labels
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import (
    Due,
    EndedBy,
    Lease,
    LeasedUser,
    LeaseOperation,
    Outcome,
    Purpose,
    Reason,
)
from botfarm.domain.pools import Pool

LEASE_COLUMNS = f"""
    l.id, l.fence, l.principal, l.operation, l.purpose, l.owner, l.project_id, l.env, l.domain, l.metadata,
    l.acquired_at, l.expires_at, l.ttl_seconds, l.hold_until, l.ended_at, l.ended_by,
    l.outcome, l.reason, l.note, l.fingerprint, l.requested_at, {all_labels("l")} AS wanted_labels,
    l.waited,
    coalesce(p.name, l.project_id::text) AS project_name,
    extract(epoch FROM l.expires_at - clock_timestamp())::float8 AS expires_in,
    u.id AS user_id, u.login, u.project_id AS user_project_id, u.env AS user_env, u.domain AS user_domain,
    CASE WHEN u.lease_id = l.id AND u.expires_at > clock_timestamp() THEN u.locktime END AS locktime,
    u.labels"""

USER_COLUMNS = """
    u.id, u.login, u.project_id, u.env, u.domain, u.lease_id, u.expires_at, u.locktime, u.labels"""
"""The columns of changed users that a statement must return so that `LEASE_COLUMNS` can be made from them."""

SEALED = "u.password, u.secrets, u.totp_seed, u.pending_password"
CREDENTIALS = """
    u.password, u.secrets, u.totp_seed, CASE WHEN l.purpose <> 'test' THEN u.pending_password END AS pending_password"""
"""Only statements that run for the holder of the lease return these. No other statement reads credentials."""

DUE_OF_CHORE = """
    CASE WHEN {lease}.purpose = 'chore' THEN (
        SELECT lu.due FROM lease_users AS lu WHERE lu.user_id = {user}.id AND lu.fence = {lease}.fence) END AS due"""

OF_USER = """
    lu.due, coalesce(lu.outcome, l.outcome) AS user_outcome,
    CASE WHEN lu.outcome IS NULL THEN l.reason ELSE lu.reason END AS user_reason,
    CASE WHEN lu.outcome IS NULL THEN l.note ELSE lu.note END AS user_note"""
"""What belongs to one user of a lease; goes with `LEASE_USER`."""

# OFFSET keeps the planner from reading the whole history of a user to find one lease in it.
LEASE_USER = """
    LEFT JOIN LATERAL (
        SELECT * FROM lease_users WHERE lease_users.user_id = u.id AND lease_users.fence = l.fence OFFSET 0
    ) AS lu ON true"""

LeaseResultRow = Row[Any]


def leases_from_rows(rows: Iterable[LeaseResultRow]) -> Iterator[Lease]:
    """The rows of one lease must be adjacent."""
    for _, of_one_lease in itertools.groupby(rows, key=attrgetter("id")):
        yield _lease(list(of_one_lease))


def lease_from_rows(rows: Iterable[LeaseResultRow]) -> Lease | None:
    return next(leases_from_rows(rows), None)


def _lease(rows: Sequence[LeaseResultRow]) -> Lease:
    row = rows[0]
    columns = row._fields
    lapsed = row.ended_at is None and row.expires_in <= 0
    ended_by = EndedBy.EXPIRED if lapsed else EndedBy(row.ended_by) if row.ended_by else None
    return Lease(
        id=row.id,
        fence=row.fence,
        principal=row.principal,
        operation=LeaseOperation(row.operation),
        purpose=Purpose(row.purpose or Purpose.TEST),
        owner=row.owner,
        pool=Pool(row.project_id, row.env, row.domain),
        project_name=row.project_name,
        metadata=row.metadata,
        acquired_at=row.acquired_at,
        expires_at=row.expires_at,
        expires_in=round(row.expires_in, 3) if ended_by is None else 0.0,
        ttl_seconds=row.ttl_seconds,
        hold_until=row.hold_until,
        ended_at=row.expires_at if lapsed else row.ended_at,
        ended_by=ended_by,
        outcome=Outcome(row.outcome) if row.outcome else None,
        reason=Reason(row.reason) if row.reason else None,
        note=row.note,
        fingerprint=row.fingerprint,
        users=tuple(_leased_user(each, columns) for each in rows if each.user_id is not None),
        requested_at=row.requested_at,
        labels=row.wanted_labels,
        waited=None if row.waited is None else round(row.waited, 3),
        row_version=row.row_version if "row_version" in columns else None,
    )


def _leased_user(row: LeaseResultRow, columns: Collection[str]) -> LeasedUser:
    outcome = row.user_outcome if "user_outcome" in columns else None
    return LeasedUser(
        id=row.user_id,
        login=row.login,
        pool=Pool(row.user_project_id, row.user_env, row.user_domain),
        locktime=row.locktime,
        labels=row.labels,
        sealed=SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password)
        if "password" in columns
        else None,
        due=tuple(map(Due, row.due or ())) if "due" in columns else (),
        outcome=outcome and Outcome(outcome),
        reason=Reason(row.user_reason) if outcome and row.user_reason else None,
        note=row.user_note if outcome else None,
    )
