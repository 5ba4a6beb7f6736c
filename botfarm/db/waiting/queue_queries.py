"""The statements that read a queue: its tickets in order, and the users that each may have, at one moment."""

from uuid import UUID

from sqlalchemy import TextClause, text

from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.pool_filter import OF_POOL, pool_parameters
from botfarm.db.shared.user_state import CHORE_AT, CLOCK, IS_DIRTY, free_at
from botfarm.db.shared.wanted_users import has_labels
from botfarm.db.waiting.live_tickets import KEPT, LIVE_TICKET, NOT_KEPT, TICKETS
from botfarm.domain.leases import Purpose
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import Place, Queue


# `s` is what tickets ask for, labels or one user, each once; `m` are the users that match each of these. If N
# users are free for one of them, only its first N tickets can be granted, and later ones are left out. A ticket
# that wants more users than are in service is left out, too: so is one for a user that is in no service. If no
# ticket asks for labels, the labels of the users are not looked at. A user that tickets ask for is counted by
# itself. MATERIALIZED, because the planner expects one ticket and would compute the other steps once for each of
# a thousand.
def _queue(purpose: Purpose, available_at: str, *, may_have: str = "true", kept: str = "") -> TextClause:
    return text(f"""
    WITH {kept}
    t AS MATERIALIZED (
        SELECT t.id, t.labels, t.choices, t.user_id, t.count, t.rank, t.replica = :replica AS is_ours,
               dense_rank() OVER (ORDER BY t.labels, t.choices, t.user_id) AS number
        FROM {TICKETS} WHERE {OF_POOL.format("t")} AND t.purpose = '{purpose}' AND {LIVE_TICKET}
    ),
    s AS MATERIALIZED (SELECT DISTINCT number, labels, choices, user_id FROM t),
    u AS MATERIALIZED (
        SELECT g.labels, g.wanted_id, count(*) AS active,
               count(*) FILTER (WHERE g.available_at <= c.now AND g.may_have) AS free,
               min(g.available_at) FILTER (WHERE g.available_at > c.now) - min(c.now) AS due_in
        FROM (
            SELECT CASE WHEN (SELECT bool_and(labels = '{{}}' AND choices IS NULL) FROM s) THEN '{{}}'
                        ELSE u.labels END AS labels,
                   CASE WHEN u.id = ANY (ARRAY(SELECT user_id FROM s WHERE user_id IS NOT NULL))
                        THEN u.id END AS wanted_id,
                   {available_at} AS available_at, {may_have} AS may_have
            FROM users AS u JOIN projects AS p ON p.id = u.project_id
            WHERE {OF_POOL.format("u")} AND (u.status IN ('active', 'dirty') OR u.status_until IS NOT NULL)
        ) AS g, {CLOCK}
        GROUP BY g.labels, g.wanted_id
    ),
    m AS MATERIALIZED (
        SELECT s.number, u.labels, u.wanted_id, u.active, u.free
        FROM s JOIN u ON (s.user_id IS NULL OR s.user_id = u.wanted_id)
          AND {has_labels("s.labels", "s.choices")}
    ),
    matching AS MATERIALIZED (SELECT number, sum(active) AS active, sum(free) AS free FROM m GROUP BY number),
    line AS (
        SELECT t.id, t.rank, t.count, t.is_ours, t.number, matching.free,
               row_number() OVER (PARTITION BY t.number ORDER BY t.rank, t.id) AS nth
        FROM t JOIN matching ON matching.number = t.number
        WHERE matching.free > 0 AND matching.active >= t.count
    )
    SELECT (SELECT jsonb_agg(jsonb_build_array(id, number, count, is_ours, extract(epoch FROM rank)) ORDER BY rank, id)
            FROM line WHERE nth <= free) AS places,
           (SELECT jsonb_agg(jsonb_build_array(numbers, free)) FROM (
                SELECT jsonb_agg(number) AS numbers, max(free) AS free FROM m WHERE free > 0
                GROUP BY labels, wanted_id
            ) AS groups) AS free,
           (SELECT extract(epoch FROM min(due_in))::float8 FROM u) AS due_in,
           (SELECT id FROM (SELECT id, number, count FROM t ORDER BY rank, id LIMIT 1) AS head
            JOIN matching USING (number) WHERE matching.active >= head.count) AS first""")


QUEUES = {
    Purpose.TEST: _queue(Purpose.TEST, free_at()),
    # A user that is not dirty goes to a test that waits, not to a keeper.
    Purpose.CHORE: _queue(Purpose.CHORE, CHORE_AT, may_have=f"({IS_DIRTY} OR ({NOT_KEPT}))", kept=KEPT),
}


async def read_queue(executor: Executor, pool: Pool, purpose: Purpose, *, replica: UUID) -> Queue:
    """Reads a queue of the pool, and the users that it may have, at one moment."""
    (row,) = await executor.execute(QUEUES[purpose], {**pool_parameters(pool), "replica": replica})
    free: dict[frozenset[int], int] = {}
    for numbers, users in row.free or ():
        matches = frozenset(numbers)
        free[matches] = free.get(matches, 0) + users
    return Queue([Place(*place) for place in row.places or ()], free, row.due_in, row.first)
