"""The history of one user, merged from its leases and the audit."""

import heapq
from datetime import datetime
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import history_queries, user_reading_queries
from botfarm.db.stock.history_queries import Found, Position
from botfarm.domain.access import Scope
from botfarm.domain.paging import Page
from botfarm.domain.users import HistoryEntry
from botfarm.errors import NoSuchUserError
from botfarm.services.shared.cursors import MAX_BIGINT, decode_bigints, encode_cursor


class History:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self, scope: Scope, user_id: UUID, *, cursor: str | None, limit: int
    ) -> Page[HistoryEntry]:
        """The newest first. Pages neither skip nor repeat an entry. Raises NoSuchUserError."""
        before = Position(*decode_bigints(cursor, 2)) if cursor else Position(MAX_BIGINT, MAX_BIGINT)
        async with self._database.autocommit() as session:
            if await user_reading_queries.get_user(session, user_id, scope) is None:
                raise NoSuchUserError
            leases = await history_queries.leases_of_user(
                session, user_id, scope, before=before.fence, limit=limit + 1
            )
            events = await history_queries.events_of_user(
                session, user_id, scope, before=before.event, limit=limit + 1
            )
        merged = list(heapq.merge(leases, events, key=_moment, reverse=True))
        page = merged[:limit]
        for found in page:
            before = before.after(found)
        more = len(merged) > limit
        entries = tuple(found.entry for found in page)
        return Page(entries, encode_cursor(before.event, before.fence) if more else None)


def _moment(found: Found) -> datetime:
    return found.entry.at
