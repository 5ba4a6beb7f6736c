"""Lists the waiting requests of a scope."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLOCK
from botfarm.db.waiting.ticket_queries import LIVE_TICKET, TICKETS
from botfarm.domain.access import Scope
from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Domain, Env, Pool
from botfarm.domain.waiting import Ticket, TicketFilter

WAITING = text(f"""
    SELECT t.id, t.project_id, t.env, t.domain, t.labels, t.purpose, t.count AS users, t.priority,
           t.principal, t.owner, t.arrived_at,
           row_number() OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose ORDER BY t.rank, t.id) AS place,
           extract(epoch FROM c.now - t.arrived_at)::float8 AS waited,
           extract(epoch FROM t.deadline - c.now)::float8 AS ends_in
    FROM {TICKETS}, {CLOCK}
    WHERE {LIVE_TICKET} AND {within("t")}
      AND (CAST(:project_id AS uuid) IS NULL OR t.project_id = :project_id)
      AND (CAST(:env AS text) IS NULL OR t.env = :env)
      AND (CAST(:domain AS text) IS NULL OR t.domain = :domain)
    ORDER BY t.project_id, t.env, t.domain, t.purpose DESC, t.rank, t.id""")


async def list_waiting(session: AsyncSession, scope: Scope, chosen: TicketFilter) -> list[Ticket]:
    """The live tickets of the scope, pool by pool, in the order of the queue."""
    parameters = {
        "project_id": chosen.project_id,
        "env": chosen.env,
        "domain": chosen.domain,
        **scope_parameters(scope),
    }
    return [
        Ticket(
            id=row.id,
            place=row.place,
            pool=Pool(row.project_id, Env(row.env), Domain(row.domain)),
            purpose=Purpose(row.purpose),
            count=row.users,
            labels=row.labels,
            priority=row.priority,
            principal=row.principal,
            owner=row.owner,
            arrived_at=row.arrived_at,
            waited=round(row.waited, 3),
            ends_in=round(row.ends_in, 3),
        )
        for row in await session.execute(WAITING, parameters)
    ]
