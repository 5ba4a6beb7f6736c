"""Queries of upkeep: old leases to delete, the state of the tables, connections and privileges."""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.rolled_up import ROLLED_UP_TO

# Fences rise with time, so old leases come first, and no index on ended_at is needed.
PRUNE = text(f"""
    WITH old AS MATERIALIZED (
        SELECT id, fence, user_ids FROM leases
        WHERE ended_at < clock_timestamp() - make_interval(days => :days) AND ended_at < {ROLLED_UP_TO}
        ORDER BY fence LIMIT :batch
    ),
    of_users AS (
        DELETE FROM lease_users USING old, unnest(old.user_ids) AS of_lease (id)
        WHERE lease_users.user_id = of_lease.id AND lease_users.fence = old.fence
    )
    DELETE FROM leases USING old WHERE leases.id = old.id
    RETURNING 1""")

REAPER_LAG = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(expires_at)), 0)::float8
    FROM leases WHERE ended_at IS NULL AND expires_at <= (SELECT clock_timestamp())""")

DEAD_TUPLES = text("SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE relname IN ('users', 'leases')")

# Only of this database, because snapshots of others do not keep vacuum from these tables. A session that has
# written and sits idle in its transaction has no snapshot, and holds dead rows back all the same.
OLDEST_SNAPSHOT = text("""
    SELECT coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8
    FROM (
        SELECT xact_start AS since FROM pg_stat_activity
        WHERE (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
          AND datname = current_database() AND pid <> pg_backend_pid()
        UNION ALL
        SELECT prepared FROM pg_prepared_xacts WHERE database = current_database()
    ) AS transactions""")

MAY_SEE_ALL = text("SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')")

CLOCK = text("SELECT clock_timestamp()")
MAY_CHANGE_TABLES = text("""
    SELECT pg_has_role(current_user, relowner, 'USAGE')
    FROM pg_class WHERE oid = to_regclass('leases')""")

IS_READ_ONLY = text("SELECT current_setting('transaction_read_only') = 'on'")

CONNECTIONS = text("""
    SELECT current_setting('max_connections')::int
               - current_setting('superuser_reserved_connections')::int AS most,
           (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS in_use""")


async def prune_leases(session: AsyncSession, *, days: int, batch: int) -> int:
    """Deletes up to `batch` leases that are rolled up and ended more than `days` days ago. Returns their number."""
    return len((await session.execute(PRUNE, {"days": days, "batch": batch})).all())


async def reaper_lag(session: AsyncSession) -> float:
    """Seconds since the expiry of the oldest lease that has expired and is still open."""
    return float(await session.scalar(REAPER_LAG) or 0)


async def dead_tuples(session: AsyncSession) -> dict[str, int]:
    return {row.relname: row.n_dead_tup for row in await session.execute(DEAD_TUPLES)}


async def oldest_snapshot(session: AsyncSession) -> float:
    """Age in seconds of the oldest transaction that keeps vacuum from removing dead rows.

    Only among the transactions that this role may see.
    """
    return float(await session.scalar(OLDEST_SNAPSHOT) or 0)


async def may_see_all_sessions(session: AsyncSession) -> bool:
    """Whether this role sees the sessions of other roles. Otherwise `oldest_snapshot` misses them."""
    return bool(await session.scalar(MAY_SEE_ALL))


async def clock(session: AsyncSession) -> datetime:
    now: datetime = (await session.execute(CLOCK)).scalar_one()
    return now


async def may_change_tables(session: AsyncSession) -> bool:
    """True for their owner and a superuser; false before the first migration."""
    return bool(await session.scalar(MAY_CHANGE_TABLES))


async def is_read_only(session: AsyncSession) -> bool:
    """True on a standby, and where default_transaction_read_only is on."""
    return bool(await session.scalar(IS_READ_ONLY))


async def connections(session: AsyncSession) -> tuple[int, int]:
    """Connections that PostgreSQL allows to all clients together, and those that others have now."""
    row = (await session.execute(CONNECTIONS)).one()
    return row.most, row.in_use
