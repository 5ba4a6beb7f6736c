"""Makes a database that was restored from a backup safe to lease from (decision 0036)."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.user_state import CLEANED, SETTLED, with_status

# Waits for grants in flight, which are visible then. Later grants see the changes made here.
STOP_HAND_OUTS = text("LOCK TABLE leases, users IN SHARE ROW EXCLUSIVE MODE")

CONNECTED = text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name ~ '^botfarm-(api|worker)'""")

# Expired leases are left to the reaper, which records them as expired.
END_LEASES = text("""
    WITH ended AS (
        UPDATE leases SET ended_at = clock_timestamp(), ended_by = 'forced',
               note = 'the database was restored'
        WHERE ended_at IS NULL AND expires_at > clock_timestamp()
        RETURNING 1
    )
    SELECT count(*) FROM ended""")

# A user that was leased after the backup may be held for `max_ttl` from now, or rest for `cooldown`, at most.
# After the backup tests may have used any user, so all are dirty where a keeper comes after every test.
_STATUS = f"CASE WHEN u.status = 'active' AND {CLEANED} THEN 'dirty' ELSE u.status END"
REST_USERS = text(f"""
    WITH resting AS (
        UPDATE users AS u SET locktime = NULL, expires_at = NULL, {SETTLED},
               {with_status(_STATUS, "clock_timestamp()")}, available_at = coalesce(
            clock_timestamp() + make_interval(secs => CAST(:rest AS float8)),
            greatest(available_at, clock_timestamp()
                     + make_interval(secs => greatest(p.max_ttl + p.lock_delay, p.cooldown))))
        FROM projects AS p WHERE p.id = u.project_id
        RETURNING available_at
    )
    SELECT count(*) AS users, max(available_at) AS until FROM resting""")

# Microseconds since 1970: above every earlier fence, however old the backup is and however often it is
# restored, because no farm grants a million leases a second. Below 2^53, the largest integer of JavaScript,
# until the year 2255.
RAISE_FENCE = text("""
    SELECT setval('fence', greatest(nextval('fence'),
                                    CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)))""")


@dataclass(frozen=True, slots=True)
class Rest:
    users: int
    until: datetime | None
    """When the last of them may be leased again; None without users."""


async def stop_hand_outs(session: AsyncSession) -> None:
    """Lets no lease begin or change until the transaction ends."""
    await session.execute(STOP_HAND_OUTS)


async def connected(session: AsyncSession) -> int:
    """Number of connections of the API and of workers."""
    return int(await session.scalar(CONNECTED) or 0)


async def end_leases(session: AsyncSession) -> int:
    """Ends all live leases and returns their number."""
    return int(await session.scalar(END_LEASES) or 0)


async def rest_users(session: AsyncSession, *, seconds: int | None) -> Rest:
    """Lets every user rest for `seconds`.

    Without `seconds`, until no lease from after the backup can be live, by its project's policy.
    """
    row = (await session.execute(REST_USERS, {"rest": seconds})).one()
    return Rest(row.users, row.until)


async def raise_fence(session: AsyncSession) -> int:
    return int(await session.scalar(RAISE_FENCE) or 0)
