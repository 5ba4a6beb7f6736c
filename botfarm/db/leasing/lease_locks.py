"""How statements lock leases and their users: the row of the lease first, then its users by id.

Each lock is taken in a MATERIALIZED CTE, and the clock is compared in a later one. PostgreSQL does not evaluate a
predicate of the locking query again when the blocker only locked the row or rolled back. Such a predicate would let a
renew that waited revive a lease that expired meanwhile.
"""

LOCKED_USERS = """
    locked AS MATERIALIZED (
        SELECT users.*
        FROM lease, unnest(lease.user_ids) AS of_lease (id), users
        WHERE users.id = of_lease.id AND users.lease_id = lease.id
        ORDER BY users.id FOR UPDATE OF users
    )"""

# Any number of leases, each of its own holder. They are locked in the order of their ids, so that two batches
# never wait for each other.
LEASES_OF_HOLDERS = f"""
    lease AS MATERIALIZED (
        SELECT leases.*, leases.xmin AS row_version
        FROM wanted JOIN leases ON leases.id = wanted.id AND leases.principal = wanted.principal
        ORDER BY leases.id FOR UPDATE OF leases
    ),
    {LOCKED_USERS},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL
          AND cardinality(lease.user_ids) = (
            SELECT count(*) FROM locked
            WHERE locked.lease_id = lease.id AND locked.expires_at > clock_timestamp())
    )"""
