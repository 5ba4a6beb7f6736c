"""The audit as it is read: two records side by side, the leases for hand-outs and the table for all other deeds."""

import heapq
from datetime import datetime

from botfarm.access import AuditEntry, AuditFilter, Scope
from botfarm.db import audit_queries
from botfarm.db.audit_queries import Position
from botfarm.db.engine import Database
from botfarm.domain import Page
from botfarm.services.cursors import decode_cursor, encode_cursor, invalid_cursor

MAX_POSITION = 2**63 - 1  # a bigint


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, scope: Scope, chosen: AuditFilter, *, cursor: str | None, limit: int
    ) -> Page[AuditEntry]:
        """The newest first. What belongs to no project is for those whose scope is everything.

        Each record is read in its own order, which is that of time but for deeds of the same moment, and both are merged:
        so a page costs what it shows, and pages neither skip nor repeat.
        """
        before = _decode(cursor) if cursor else Position(MAX_POSITION, MAX_POSITION)
        async with self._database.autocommit() as session:
            deeds = await audit_queries.list_deeds(
                session, chosen, scope, before=before.deed, limit=limit + 1
            )
            hand_outs = await audit_queries.list_hand_outs(
                session, chosen, scope, before=before.fence, limit=limit + 1
            )
        merged = list(heapq.merge(deeds, hand_outs, key=_moment, reverse=True))
        page = merged[:limit]
        for entry in page:
            before = before.after(entry)
        more = len(merged) > limit
        return Page(
            tuple(each.entry for each in page), encode_cursor(before.deed, before.fence) if more else None
        )


def _moment(found: audit_queries.Found) -> datetime:
    return found.entry.at


def _decode(cursor: str) -> Position:
    numbers = decode_cursor(cursor, 2)
    if not all(
        each.isdecimal() and len(each) <= len(str(MAX_POSITION)) and int(each) <= MAX_POSITION
        for each in numbers
    ):
        raise invalid_cursor()
    return Position(*map(int, numbers))
