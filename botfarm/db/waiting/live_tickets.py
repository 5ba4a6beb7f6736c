"""Conditions on the tickets of a queue, for statements that read or grant them."""

from botfarm.db.shared.pool_filter import OF_POOL

# Conditions on `FROM {TICKETS}`. A ticket that only keeps a place for its key has no replica and is not live.
TICKETS = "tickets AS t JOIN replicas AS r ON r.id = t.replica"
LIVE_TICKET = "t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds'"

_TESTS = f"{TICKETS} WHERE {OF_POOL.format('t')} AND t.purpose = 'test' AND {LIVE_TICKET}"
KEPT = f"""kept AS MATERIALIZED (
        SELECT CASE WHEN NOT EXISTS (SELECT FROM {_TESTS} AND t.user_id IS NULL)
                    THEN ARRAY(SELECT t.user_id FROM {_TESTS} AND t.user_id IS NOT NULL) END AS user_ids
    ),"""
"""The users of the pool that are kept for tests that wait for them; null for all, because a test waits for any user."""
NOT_KEPT = """(SELECT user_ids FROM kept) IS NOT NULL
          AND u.id <> ALL (CAST((SELECT user_ids FROM kept) AS uuid[]))"""
"""The first part depends on no user, so PostgreSQL evaluates it once, and then looks at no user."""

IS_FIRST = f"""NOT EXISTS (
              SELECT FROM {TICKETS} WHERE {OF_POOL.format("t")} AND t.purpose = :purpose AND {LIVE_TICKET}
                AND (t.rank, t.id) < (SELECT mine.rank, mine.id FROM tickets AS mine WHERE mine.id = :ticket))"""
"""Whether no live ticket stands before `:ticket` in its queue. It depends on no user, either."""
