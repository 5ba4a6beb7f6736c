"""The statements of a live lease: renew, cut short, restore, and what its holder stores for one of its users."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_locks import leases_of_holders, locked_users
from botfarm.db.leasing.lease_rows import (
    CREDENTIALS,
    DUE_OF_CHORE,
    LEASE_COLUMNS,
    SEALED,
    USER_COLUMNS,
    lease_from_rows,
    leases_from_rows,
)
from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.user_state import with_status
from botfarm.domain.access import Principal
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import Lease


def _with_end_at(
    wanted: str, expires_at: str, *, ttl: str = "live.ttl_seconds", where: str = "true", besides: str = ""
) -> TextClause:
    """Moves the end of live leases; the expressions may use `live`, its project `p` and the granted `ttl`."""
    return text(f"""
    WITH wanted AS MATERIALIZED ({wanted}),
    {leases_of_holders()},
    moved AS MATERIALIZED (
        SELECT live.id, live.acquired_at, p.lock_delay, p.login_gap, granted.ttl, {expires_at} AS expires_at
        FROM live JOIN wanted ON wanted.id = live.id JOIN projects AS p ON p.id = live.project_id,
             LATERAL (SELECT {ttl} AS ttl) AS granted
        WHERE {where}
    ),
    l AS (
        UPDATE leases SET expires_at = moved.expires_at, ttl_seconds = moved.ttl
        FROM moved WHERE leases.id = moved.id
        RETURNING leases.*
    ),
    u AS (
        UPDATE users AS u SET expires_at = moved.expires_at,
               available_at = greatest(moved.expires_at + make_interval(secs => moved.lock_delay),
                                       moved.acquired_at + make_interval(secs => moved.login_gap))
        FROM moved, locked WHERE locked.lease_id = moved.id AND u.id = locked.id
        RETURNING {USER_COLUMNS}, {SEALED}
    ){besides}
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}, {DUE_OF_CHORE.format(lease="l", user="u")}
    FROM l LEFT JOIN projects AS p ON p.id = l.project_id JOIN u ON u.lease_id = l.id
    ORDER BY l.id, u.id""")


_ONE = "SELECT CAST(:lease_id AS uuid) AS id, CAST(:principal AS text) AS principal"

# A renewal returns the credentials. From the address that took the lease, that is no new reading. From
# another address it is, and the audit must record it, because a stolen token would be used like that.
_RENEWED_ELSEWHERE = """,
    elsewhere AS (
        INSERT INTO audit (principal, address, request_id, action, target, target_id,
                           project_id, env, details)
        SELECT l.principal, wanted.address, wanted.request_id, 'renew_lease', 'lease', l.id::text,
               l.project_id, l.env, jsonb_build_object('taken_from', l.address)
        FROM l JOIN wanted ON wanted.id = l.id WHERE l.address IS DISTINCT FROM wanted.address
    )"""

RENEW = _with_end_at(
    """SELECT * FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:principals AS text[]), CAST(:ttls AS integer[]),
                            CAST(:addresses AS text[]), CAST(:request_ids AS text[]))
                     AS w (id, principal, ttl, address, request_id)""",
    "greatest(live.expires_at, least(live.now + make_interval(secs => granted.ttl), live.hold_until))",
    ttl="""greatest(1, least(coalesce(wanted.ttl, live.ttl_seconds),
                             CASE WHEN live.purpose = 'hold' THEN p.max_hold ELSE p.max_ttl END,
                             CAST(ceil(extract(epoch FROM live.hold_until - live.now)) AS integer)))""",
    besides=_RENEWED_ELSEWHERE,
)
# A lease whose caller may have no answer is cut short, and a retry under its key restores its TTL. Either may
# come first. So a lease is cut short only while its row is as the grant wrote it, and a retry always writes
# the row.
CUT_SHORT = _with_end_at(
    _ONE,
    "least(live.expires_at, live.now + make_interval(secs => :seconds))",
    where="live.row_version = CAST(CAST(:row_version AS text) AS xid)",
)
RESTORE = _with_end_at(
    _ONE,
    """greatest(live.expires_at,
                least(live.acquired_at + make_interval(secs => granted.ttl), live.hold_until))""",
)

# Locks the lease and one of its users, in the order of lease_locks.py. Whether the lease is live is evaluated after
# both locks.
LOCK_USER_OF_LEASE = text(f"""
    WITH lease AS MATERIALIZED (
        SELECT * FROM leases WHERE id = :lease_id AND principal = :principal FOR UPDATE
    ),
    {locked_users("password", "secrets", "totp_seed", "pending_password", "rotated_at", "code_used_until")}
    SELECT locked.password, locked.secrets, locked.totp_seed, locked.pending_password,
           locked.rotated_at >= lease.acquired_at AS was_rotated, locked.code_used_until
    FROM lease, locked
    WHERE locked.id = :user_id AND lease.ended_at IS NULL AND locked.expires_at > clock_timestamp()""")

# New credentials may work where the old ones were rejected. A holder that says what the password is ends a rotation.
_NEW_CREDENTIALS = """
    health = CASE u.health WHEN 'failing' THEN 'unknown' ELSE u.health END, health_reason = NULL,
    pending_password = NULL"""

WRITE_BACK = text("""
    UPDATE users AS u SET secrets = :secrets,
           session_expires_at = coalesce(CAST(:session_expires_at AS timestamptz), u.session_expires_at)
    WHERE id = :user_id""")

CHANGE_PASSWORD = text(f"""
    UPDATE users AS u SET password = :password, {_NEW_CREDENTIALS} WHERE id = :user_id""")

START_ROTATION = text(f"""
    UPDATE users AS u SET pending_password = :pending_password, {
    with_status("CASE u.status WHEN 'active' THEN 'dirty' ELSE u.status END", "clock_timestamp()")
}
    WHERE u.id = :user_id""")

CONFIRM_ROTATION = text(f"""
    UPDATE users AS u SET password = :password, rotated_at = clock_timestamp(), must_rotate = false,
           {_NEW_CREDENTIALS}
    WHERE u.id = :user_id""")


@dataclass(frozen=True, slots=True)
class Renewal:
    lease_id: UUID
    principal: Principal
    ttl_seconds: int | None


async def renew(executor: Executor, wanted: Sequence[Renewal]) -> dict[UUID, Lease]:
    """Changes the live leases of the principals. Returns them by their ids. No lease may be there twice."""
    parameters = {
        "lease_ids": [each.lease_id for each in wanted],
        "principals": [each.principal.name for each in wanted],
        "ttls": [each.ttl_seconds for each in wanted],
        "addresses": [each.principal.address for each in wanted],
        "request_ids": [each.principal.request_id for each in wanted],
    }
    return {lease.id: lease for lease in leases_from_rows(await executor.execute(RENEW, parameters))}


async def cut_short(session: AsyncSession, new: Lease, *, seconds: float) -> None:
    """Shortens the lease to at most `seconds` from now.

    Changes nothing if the lease was renewed, replayed or ended since its grant.
    """
    parameters = {
        "lease_id": new.id,
        "principal": new.principal,
        "row_version": str(new.row_version),
        "seconds": seconds,
    }
    await session.execute(CUT_SHORT, parameters)


async def restore(session: AsyncSession, lease_id: UUID, *, principal: str) -> Lease | None:
    """Gives a live lease its whole TTL, and makes a later `cut_short` change nothing.

    None when the lease is not live.
    """
    return lease_from_rows(await session.execute(RESTORE, {"lease_id": lease_id, "principal": principal}))


@dataclass(frozen=True, slots=True)
class LockedUserOfLease:
    sealed: SealedCredentials
    was_rotated: bool
    """True if a rotation was confirmed since the lease began."""
    code_used_until: datetime | None
    """The end of the last one-time code that was given."""


async def lock_user_of_lease(
    session: AsyncSession, lease_id: UUID, user_id: UUID, *, principal: str
) -> LockedUserOfLease | None:
    """Locks the user until the transaction ends. None unless the principal's live lease has this user."""
    parameters = {"lease_id": lease_id, "user_id": user_id, "principal": principal}
    row = (await session.execute(LOCK_USER_OF_LEASE, parameters)).one_or_none()
    if row is None:
        return None
    sealed = SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password)
    return LockedUserOfLease(sealed, bool(row.was_rotated), row.code_used_until)


async def write_back(
    session: AsyncSession,
    user_id: UUID,
    *,
    password: str | None,
    secrets: str | None,
    session_expires_at: datetime | None,
) -> None:
    """Stores the credentials of a user that `lock_user_of_lease` has locked. Null leaves a password as it is."""
    if password is not None:
        await session.execute(CHANGE_PASSWORD, {"user_id": user_id, "password": password})
    await session.execute(
        WRITE_BACK, {"user_id": user_id, "secrets": secrets, "session_expires_at": session_expires_at}
    )


async def start_rotation(session: AsyncSession, user_id: UUID, *, pending_password: str) -> None:
    """Keeps the new password of a locked user. No test gets the user until the password is confirmed."""
    await session.execute(START_ROTATION, {"user_id": user_id, "pending_password": pending_password})


async def confirm_rotation(session: AsyncSession, user_id: UUID, *, password: str) -> None:
    """Stores the pending password of a locked user as its password, which the caller has encrypted as such."""
    await session.execute(CONFIRM_ROTATION, {"user_id": user_id, "password": password})
