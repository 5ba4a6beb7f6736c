"""Tickets that leave without a user: many with one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from botfarm.db.postgres.engine import Database
from botfarm.db.waiting import ticket_queries
from botfarm.db.waiting.ticket_queries import Left, Parked
from botfarm.services.shared.batching import Coalescer

MAX_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Leaving:
    ticket: Parked
    keeps_place: bool


class Departures:
    def __init__(self, database: Database, replica_id: UUID) -> None:
        self._database = database
        self._replica_id = replica_id
        self._leaving = Coalescer[_Leaving, Left | None](self._leave, max_batch=MAX_BATCH)

    async def leave(self, ticket: Parked, *, keeps_place: bool) -> Left | None:
        """The place is kept for the ticket's key, if it has one. None when the ticket is not this replica's any more."""
        return await self._leaving.submit(_Leaving(ticket, keeps_place))

    async def _leave(self, leaving: Sequence[_Leaving]) -> list[Left | None]:
        tickets = [(each.ticket, each.keeps_place) for each in leaving]
        async with self._database.autocommit() as session:
            left = await ticket_queries.leave(session, tickets, replica=self._replica_id)
        return [left.get(each.ticket.id) for each in leaving]
