"""Reads the audit: the table of leases for grants, and the table of the audit for all other actions."""

import asyncio
import heapq
from datetime import datetime

from botfarm.db.access import audit_queries
from botfarm.db.access.audit_queries import Position
from botfarm.db.postgres.engine import Database
from botfarm.domain.access import Scope
from botfarm.domain.audit import AuditEntry, AuditFilter
from botfarm.domain.paging import Page
from botfarm.services.shared.cursors import MAX_BIGINT, decode_bigints, encode_cursor

# Seconds that a reading may take. With a filter it may be slow: an index for each filter would slow down every grant.
PATIENCE = 10.0
# Few readings at a time, because each holds a connection for up to `PATIENCE`.
AT_ONCE = 2


class Audit:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def list(
        self, scope: Scope, chosen: AuditFilter, *, cursor: str | None, limit: int
    ) -> Page[AuditEntry]:
        """Entries, the newest first. Entries without a project are shown only to a principal whose scope is everything.

        Both tables are read by their numbers, newest first, and merged by time. So the cost of a page depends
        only on its rows, and pages neither skip nor repeat entries.
        """
        before = Position(*decode_bigints(cursor, 2)) if cursor else Position(MAX_BIGINT, MAX_BIGINT)
        async with self._turns, self._database.long_reading(patience=PATIENCE) as session:
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
