"""Lists the waiting requests of a scope."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.shared.user_state import CLOCK
from botfarm.db.shared.wanted_users import all_labels
from botfarm.db.waiting.live_tickets import LIVE_TICKET, TICKETS
from botfarm.domain.access import Scope
from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import Ticket, TicketFilter

# Leases that tell how long a pool's users are held: of the farm's newest ones, the newest of the pool.
_NEWEST, _OF_THE_POOL = 20_000, 100

WAITING = text(f"""
    WITH waiting AS (
        SELECT t.id, t.project_id, t.env, t.domain, {all_labels("t")} AS labels, t.user_id, t.purpose,
               t.count AS users, t.priority,
               t.principal, t.owner, t.arrived_at, t.rank,
               row_number() OVER line AS place,
               sum(t.count) FILTER (WHERE t.user_id IS NULL) OVER line AS users_until_served,
               extract(epoch FROM c.now - t.arrived_at)::float8 AS waited,
               extract(epoch FROM t.deadline - c.now)::float8 AS ends_in
        FROM {TICKETS}, {CLOCK}
        WHERE {LIVE_TICKET} AND {within("t")}
          AND (CAST(:project_id AS uuid) IS NULL OR t.project_id = :project_id)
          AND (CAST(:env AS text) IS NULL OR t.env = :env)
          AND (CAST(:domain AS text) IS NULL OR t.domain = :domain)
        WINDOW line AS (PARTITION BY t.project_id, t.env, t.domain, t.purpose ORDER BY t.rank, t.id)
    ),
    pools AS (SELECT DISTINCT project_id, env, domain, purpose FROM waiting WHERE purpose = 'test'),
    -- By Little's law: so many users come back in a second.
    pace AS (
        SELECT pools.*, busy.users / nullif(recent.held, 0) AS users_a_second
        FROM pools,
             LATERAL (
                 SELECT sum(cardinality(l.user_ids))::float8 AS users FROM leases AS l
                 WHERE l.ended_at IS NULL AND l.purpose = 'test'
                   AND (l.project_id, l.env, l.domain) = (pools.project_id, pools.env, pools.domain)
             ) AS busy,
             LATERAL (
                 SELECT avg(extract(epoch FROM newest.ended_at - newest.acquired_at))::float8 AS held FROM (
                     SELECT l.ended_at, l.acquired_at FROM leases AS l
                     WHERE l.fence > (SELECT max(fence) FROM leases) - {_NEWEST}
                       AND l.ended_at IS NOT NULL AND l.purpose = 'test'
                       AND (l.project_id, l.env, l.domain) = (pools.project_id, pools.env, pools.domain)
                     ORDER BY l.fence DESC LIMIT {_OF_THE_POOL}
                 ) AS newest
             ) AS recent
    )
    SELECT waiting.*, u.login,
           CASE WHEN user_id IS NULL THEN users_until_served / nullif(pace.users_a_second, 0) END AS expected_in
    FROM waiting LEFT JOIN pace USING (project_id, env, domain, purpose) LEFT JOIN users AS u ON u.id = user_id
    ORDER BY waiting.project_id, waiting.env, waiting.domain, purpose DESC, rank, waiting.id""")


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
            pool=Pool(row.project_id, row.env, row.domain),
            purpose=Purpose(row.purpose),
            count=row.users,
            labels=row.labels,
            login=row.login,
            priority=row.priority,
            principal=row.principal,
            owner=row.owner,
            arrived_at=row.arrived_at,
            waited=round(row.waited, 3),
            ends_in=round(row.ends_in, 3),
            expected_in=None if row.expected_in is None else round(float(row.expected_in), 3),
        )
        for row in await session.execute(WAITING, parameters)
    ]
