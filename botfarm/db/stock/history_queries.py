"""The history of one user: its leases, and what was done to it by hand and by policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Scope
from botfarm.domain.leases import EndedBy, Outcome, Purpose, Reason, Verdict
from botfarm.domain.users import HistoryEntry, UserLease

EVENTS = (
    "create_user",
    "update_user",
    "quarantine_user",
    "withhold_quarantine",
    "restore_user",
    "retire_user",
)
"""Actions of the audit that belong to the history. Reading is none of them."""

# By the key of lease_users, so that a page costs what it shows, however long the history is.
LEASES_OF_USER = text(f"""
    SELECT l.id, l.fence, l.operation, coalesce(l.purpose, 'test') AS purpose, l.principal, l.owner, l.metadata,
           l.acquired_at, l.expires_at,
           coalesce(l.ended_at, CASE WHEN l.expires_at <= clock_timestamp() THEN l.expires_at END) AS ended_at,
           coalesce(l.ended_by, CASE WHEN l.expires_at <= clock_timestamp() THEN 'expired' END) AS ended_by,
           coalesce(lu.outcome, l.outcome) AS outcome,
           CASE WHEN lu.outcome IS NULL THEN l.reason ELSE lu.reason END AS reason,
           CASE WHEN lu.outcome IS NULL THEN l.note ELSE lu.note END AS note
    FROM lease_users AS lu JOIN leases AS l ON l.fence = lu.fence
    WHERE lu.user_id = :user_id AND lu.fence < :before AND {within("l")}
    ORDER BY lu.fence DESC LIMIT :limit""")

EVENTS_OF_USER = text(f"""
    SELECT id, at, action, principal, details FROM audit AS a
    WHERE target_id = :user_id AND id < :before AND action = ANY (CAST(:actions AS text[])) AND {within("a")}
    ORDER BY id DESC LIMIT :limit""")


@dataclass(frozen=True, slots=True)
class Position:
    """How far both tables were read: rows with lower numbers are left."""

    event: int
    fence: int

    def after(self, found: "Found") -> "Position":
        if found.entry.lease:
            return Position(self.event, found.number)
        return Position(found.number, self.fence)


@dataclass(frozen=True, slots=True)
class Found:
    entry: HistoryEntry
    number: int
    """The fence of a lease, or the id of an event."""


async def leases_of_user(
    session: AsyncSession, user_id: UUID, scope: Scope, *, before: int, limit: int
) -> list[Found]:
    """The newest first."""
    parameters = {"user_id": user_id, "before": before, "limit": limit, **scope_parameters(scope)}
    return [_found_lease(row) for row in await session.execute(LEASES_OF_USER, parameters)]


async def events_of_user(
    session: AsyncSession, user_id: UUID, scope: Scope, *, before: int, limit: int
) -> list[Found]:
    """The newest first."""
    parameters = {
        "user_id": str(user_id),
        "before": before,
        "limit": limit,
        "actions": list(EVENTS),
        **scope_parameters(scope),
    }
    return [
        Found(HistoryEntry(row.at, row.action, row.principal, None, _details(row.details)), row.id)
        for row in await session.execute(EVENTS_OF_USER, parameters)
    ]


def _found_lease(row: Row[Any]) -> Found:
    lease = UserLease(
        id=row.id,
        fence=row.fence,
        purpose=Purpose(row.purpose),
        owner=row.owner,
        metadata=row.metadata,
        acquired_at=row.acquired_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        ended_by=EndedBy(row.ended_by) if row.ended_by else None,
        verdict=Verdict(
            Outcome(row.outcome) if row.outcome else None,
            Reason(row.reason) if row.reason else None,
            row.note,
        ),
    )
    return Found(HistoryEntry(row.acquired_at, row.operation, row.principal, lease, {}), row.fence)


def _details(details: Mapping[str, object]) -> Mapping[str, object]:
    return {name: value for name, value in details.items() if value is not None}
