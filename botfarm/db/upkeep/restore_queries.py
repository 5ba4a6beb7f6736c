"""What makes a database that was restored from a backup safe to hand out from."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

# Waits for those under way, which are seen then; those that come after it see what is made here.
STOP_HAND_OUTS = text("LOCK TABLE leases, users IN SHARE ROW EXCLUSIVE MODE")

CONNECTED = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name ~ '^botfarm-(api|worker)'""")

# Those that have expired are left to the reaper, which says so.
END_LEASES = text("""
    WITH ended AS (
        UPDATE leases SET ended_at = clock_timestamp(), ended_by = 'forced', note = 'the database was restored'
        WHERE ended_at IS NULL AND expires_at > clock_timestamp()
        RETURNING 1
    )
    SELECT count(*) FROM ended""")

# Whoever was handed out after the backup may be held for `max_ttl`, or rest for `cooldown`, from now on at most.
REST_USERS = text("""
    WITH resting AS (
        UPDATE users SET locktime = NULL, expires_at = NULL, available_at = coalesce(
            clock_timestamp() + make_interval(secs => CAST(:rest AS float8)),
            greatest(available_at,
                     clock_timestamp() + make_interval(secs => greatest(p.max_ttl + p.lock_delay, p.cooldown))))
        FROM projects AS p WHERE p.id = users.project_id
        RETURNING available_at
    )
    SELECT count(*) AS users, max(available_at) AS until FROM resting""")

# Microseconds since 1970: above every fence that ever was, however old the backup is and however often it is restored,
# as no farm hands out a million leases a second. Below 2^53, which JavaScript counts to, until the year 2255.
RAISE_FENCE = text("""
    SELECT setval('fence', greatest(nextval('fence'), CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)))""")


@dataclass(frozen=True, slots=True)
class Rest:
    users: int
    until: datetime | None
    """When the last of them may be handed out; None where there are none."""


async def stop_hand_outs(session: AsyncSession) -> None:
    """Until the end of the transaction."""
    await session.execute(STOP_HAND_OUTS)


async def connected(session: AsyncSession) -> int:
    """How many connections processes have that hand users out."""
    return int(await session.scalar(CONNECTED) or 0)


async def end_leases(session: AsyncSession) -> int:
    """Returns how many were live."""
    return int(await session.scalar(END_LEASES) or 0)


async def rest_users(session: AsyncSession, *, seconds: int | None) -> Rest:
    """Without seconds each rests until whoever may hold it cannot any more, as its project's policy says."""
    row = (await session.execute(REST_USERS, {"rest": seconds})).one()
    return Rest(row.users, row.until)


async def raise_fence(session: AsyncSession) -> int:
    return int(await session.scalar(RAISE_FENCE) or 0)
