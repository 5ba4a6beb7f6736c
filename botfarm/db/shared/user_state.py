"""A user's state: one expression for the API, the pools and the metrics.

Every statement that uses it names the users `u` and reads the clock once, as `c.now`.
"""

# The clock is read once for all rows, because the planner never pulls up a volatile subquery.
CLOCK = "(SELECT clock_timestamp() AS now) AS c"

USER_STATE = """
    CASE WHEN u.status = 'quarantined' THEN 'quarantined'
         WHEN u.locktime IS NOT NULL AND u.expires_at > c.now THEN 'leased'
         WHEN u.available_at > c.now THEN 'resting'
         ELSE 'free' END"""

POOL_COUNTS = f"""
    count(*) AS total,
    count(*) FILTER (WHERE {USER_STATE} = 'free') AS free,
    count(*) FILTER (WHERE {USER_STATE} = 'leased') AS leased,
    count(*) FILTER (WHERE {USER_STATE} = 'resting') AS resting,
    count(*) FILTER (WHERE {USER_STATE} = 'quarantined') AS quarantined,
    extract(epoch FROM min(u.available_at) FILTER (WHERE u.status = 'active' AND u.available_at > c.now)
            - min(c.now))::float8 AS next_free_in"""
