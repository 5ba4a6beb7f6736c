"""The line of those who wait for users of a pool: their tickets, and what decides whose turn it is.

A ticket is live while its deadline is ahead and its replica is seen. Only its own replica grants it, by the statement
that also deletes it: whoever deletes a ticket has decided what became of it.
"""

# Conditions on `FROM {TICKETS}`. A place that is only kept has no replica, so it is never live.
TICKETS = "tickets AS t JOIN replicas AS r ON r.id = t.replica"
LIVE_TICKET = "t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds'"
