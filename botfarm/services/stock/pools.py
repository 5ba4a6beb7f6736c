from collections.abc import Sequence

from botfarm.db.postgres.engine import Database
from botfarm.db.stock import pool_queries
from botfarm.db.waiting import waiting_queries
from botfarm.domain.access import Scope
from botfarm.domain.pools import PoolUsage
from botfarm.domain.waiting import Ticket, TicketFilter


class Pools:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(self, scope: Scope) -> list[PoolUsage]:
        """Every pool of the scope that has users, with the counts of one moment."""
        async with self._database.autocommit() as session:
            return await pool_queries.count_pools(session, scope)

    async def waiting(self, scope: Scope, chosen: TicketFilter) -> Sequence[Ticket]:
        """Waiting requests, pool by pool, in the order in which they will be served."""
        async with self._database.autocommit() as session:
            return await waiting_queries.list_waiting(session, scope, chosen)
