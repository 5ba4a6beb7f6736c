"""How statements lock leases and their users: the row of the lease first, then its users by id.

Each lock is taken in a MATERIALIZED CTE, and the clock is compared in a later one. PostgreSQL does not evaluate a
predicate of the locking query again when the blocker only locked the row or rolled back. Such a predicate would let a
renew that waited revive a lease that expired meanwhile.
"""


def locked_users(*columns: str) -> str:
    """The users of `lease`, with these columns besides those that tell whether the lease is live.

    A later part of the statement cannot read the columns of `users` itself, because it would read them as they
    were before the lock.
    """
    chosen = ", ".join(f"users.{column}" for column in ("id", "lease_id", "expires_at", *columns))
    return f"""
    locked AS MATERIALIZED (
        SELECT {chosen}
        FROM lease, unnest(lease.user_ids) AS of_lease (id), users
        WHERE users.id = of_lease.id AND users.lease_id = lease.id
        ORDER BY users.id FOR UPDATE OF users
    )"""


def leases_of_holders(only: str = "true") -> str:
    """Any number of leases, each of its own holder, and those that are `live`.

    They are locked in the order of their ids, so that two batches never wait for each other.
    """
    return f"""
    lease AS MATERIALIZED (
        SELECT leases.id, leases.fence, leases.purpose, leases.project_id, leases.user_ids, leases.acquired_at,
               leases.expires_at, leases.ttl_seconds, leases.hold_until, leases.ended_at, leases.xmin AS row_version
        FROM wanted JOIN leases ON leases.id = wanted.id AND leases.principal = wanted.principal
        ORDER BY leases.id FOR UPDATE OF leases
    ),
    {locked_users()},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL AND {only}
          AND cardinality(lease.user_ids) = (
            SELECT count(*) FROM locked
            WHERE locked.lease_id = lease.id AND locked.expires_at > clock_timestamp())
    )"""
