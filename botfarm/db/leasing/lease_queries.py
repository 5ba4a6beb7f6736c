"""The statements that change a lease: renew, release, force, reap, write back.

Leases are read in lease_reading_queries.py. All statements lock in one order: the row of the lease first,
then its users by id. Each lock is taken in a MATERIALIZED CTE, and the clock is compared in a later one.
PostgreSQL does not evaluate a predicate of the locking query again when the blocker only locked the row or
rolled back. Such a predicate would let a renew that waited revive a lease that expired meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import CREDENTIALS, LEASE_COLUMNS, lease_from_rows, leases_from_rows
from botfarm.db.postgres.driver import Executor
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Principal, Scope
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.leases import EndedLease, Lease, Outcome
from botfarm.domain.pools import Domain, Env, Pool

Rest = Literal["cooldown", "lock_delay", "none"]
"""The duration of the project for which a user rests after a lease."""

_LOCKED_USERS = """
    locked AS MATERIALIZED (
        SELECT users.id, users.lease_id, users.expires_at, users.password, users.secrets, users.totp_seed
        FROM lease, unnest(lease.user_ids) AS of_lease (id), users
        WHERE users.id = of_lease.id AND users.lease_id = lease.id
        ORDER BY users.id FOR UPDATE OF users
    )"""

# Any number of leases, each of its own holder. They are locked in the order of their ids, so that two batches
# never wait for each other.
_LEASES_OF_HOLDERS = f"""
    lease AS MATERIALIZED (
        SELECT leases.*, leases.xmin AS row_version
        FROM wanted JOIN leases ON leases.id = wanted.id AND leases.principal = wanted.principal
        ORDER BY leases.id FOR UPDATE OF leases
    ),
    {_LOCKED_USERS},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL
          AND cardinality(lease.user_ids) = (
            SELECT count(*) FROM locked
            WHERE locked.lease_id = lease.id AND locked.expires_at > clock_timestamp())
    )"""

_ENDED = f"""
    l AS (
        UPDATE leases SET ended_at = live.now, ended_by = :ended_by,
               outcome = wanted.outcome, note = wanted.note
        FROM live, wanted WHERE leases.id = live.id AND wanted.id = live.id
        RETURNING leases.*
    ),
    u AS (
        UPDATE users SET locktime = NULL, expires_at = NULL, available_at = live.now + make_interval(secs => (
            SELECT CASE wanted.rest WHEN 'lock_delay' THEN lock_delay WHEN 'cooldown' THEN cooldown ELSE 0 END
            FROM projects WHERE projects.id = live.project_id))
        FROM live, wanted, locked
        WHERE wanted.id = live.id AND locked.lease_id = live.id AND users.id = locked.id
        RETURNING users.*
    )
    SELECT {LEASE_COLUMNS}
    FROM l LEFT JOIN projects AS p ON p.id = l.project_id LEFT JOIN u ON u.lease_id = l.id
    ORDER BY l.id, u.id"""


def _with_end_at(
    wanted: str, expires_at: str, *, ttl: str = "live.ttl_seconds", where: str = "true", besides: str = ""
) -> TextClause:
    """Moves the end of live leases; the expressions may use `live`, its project `p` and the granted `ttl`."""
    return text(f"""
    WITH wanted AS MATERIALIZED ({wanted}),
    {_LEASES_OF_HOLDERS},
    moved AS MATERIALIZED (
        SELECT live.id, p.lock_delay, granted.ttl, {expires_at} AS expires_at
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
        UPDATE users SET expires_at = moved.expires_at,
               available_at = moved.expires_at + make_interval(secs => moved.lock_delay)
        FROM moved, locked WHERE locked.lease_id = moved.id AND users.id = locked.id
        RETURNING users.*
    ){besides}
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}
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
    ttl="""greatest(1, least(coalesce(wanted.ttl, live.ttl_seconds), p.max_ttl,
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

RELEASE = text(f"""
    WITH wanted AS MATERIALIZED (
        SELECT *
        FROM unnest(CAST(:lease_ids AS uuid[]), CAST(:principals AS text[]), CAST(:outcomes AS text[]),
                    CAST(:notes AS text[]), CAST(:rests AS text[]))
             AS w (id, principal, outcome, note, rest)
    ),
    {_LEASES_OF_HOLDERS}, {_ENDED}""")

FORCE_RELEASE = text(f"""
    WITH wanted AS MATERIALIZED (
        SELECT CAST(:lease_id AS uuid) AS id, CAST(NULL AS text) AS outcome, CAST(:reason AS text) AS note,
               'lock_delay' AS rest
    ),
    lease AS MATERIALIZED (
        SELECT * FROM leases AS l WHERE l.id = :lease_id AND {within("l")} FOR UPDATE
    ),
    {_LOCKED_USERS},
    live AS MATERIALIZED (
        SELECT lease.*, clock_timestamp() AS now FROM lease
        WHERE lease.ended_at IS NULL
          AND (SELECT count(*) FROM locked WHERE expires_at > clock_timestamp()) > 0
    ),
    {_ENDED}""")

# Users are cleared only where this lease is still their last one, because an acquire may have taken them
# since it expired. When a step of the clock ended the lease, its holder may go on until the lease would have
# ended without the step. The users rest until then, but at most for as long as a new lease of that TTL.
REAP = text("""
    WITH lease AS MATERIALIZED (
        SELECT id, user_ids, project_id, env, domain, acquired_at, expires_at, ttl_seconds FROM leases
        WHERE ended_at IS NULL
          AND expires_at <= (SELECT least(clock_timestamp(), CAST(:latest AS timestamptz)))
        ORDER BY expires_at LIMIT :batch FOR UPDATE SKIP LOCKED
    ),
    locked AS MATERIALIZED (
        SELECT users.id, lease.ttl_seconds
        FROM lease, unnest(lease.user_ids) AS of_lease (id), users
        WHERE users.id = of_lease.id AND users.lease_id = lease.id
        ORDER BY users.id FOR UPDATE OF users
    ),
    closed AS (
        UPDATE leases SET ended_at = leases.expires_at, ended_by = 'expired'
        FROM lease WHERE leases.id = lease.id
    ),
    cleared AS (
        UPDATE users SET locktime = NULL, expires_at = NULL, available_at = least(
            users.available_at + make_interval(secs => CAST(:step AS float8)),
            greatest(users.available_at,
                     clock_timestamp() + make_interval(secs => locked.ttl_seconds + p.lock_delay)))
        FROM locked, projects AS p WHERE users.id = locked.id AND p.id = users.project_id
    )
    SELECT lease.project_id, lease.env, lease.domain,
           coalesce(p.name, lease.project_id::text) AS project_name,
           extract(epoch FROM lease.expires_at - lease.acquired_at)::float8 AS held_for
    FROM lease LEFT JOIN projects AS p ON p.id = lease.project_id""")

# Locks the lease and one of its users, in the order above. Whether the lease is live is evaluated after both
# locks.
LOCK_USER_OF_LEASE = text(f"""
    WITH lease AS MATERIALIZED (
        SELECT * FROM leases WHERE id = :lease_id AND principal = :principal FOR UPDATE
    ),
    {_LOCKED_USERS}
    SELECT locked.password, locked.secrets, locked.totp_seed FROM lease, locked
    WHERE locked.id = :user_id AND lease.ended_at IS NULL AND locked.expires_at > clock_timestamp()""")

WRITE_BACK = text("UPDATE users SET password = :password, secrets = :secrets WHERE id = :user_id")


@dataclass(frozen=True, slots=True)
class Renewal:
    lease_id: UUID
    principal: Principal
    ttl_seconds: int | None


@dataclass(frozen=True, slots=True)
class Release:
    lease_id: UUID
    principal: str
    outcome: Outcome | None
    note: str | None
    rest: Rest = "cooldown"


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


async def release(executor: Executor, wanted: Sequence[Release]) -> dict[UUID, Lease]:
    """Changes the live leases of the principals. Returns them by their ids. No lease may be there twice."""
    parameters = {
        "lease_ids": [each.lease_id for each in wanted],
        "principals": [each.principal for each in wanted],
        "outcomes": [each.outcome and each.outcome.value for each in wanted],
        "notes": [each.note for each in wanted],
        "rests": [each.rest for each in wanted],
        "ended_by": "released",
    }
    return {lease.id: lease for lease in leases_from_rows(await executor.execute(RELEASE, parameters))}


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


async def force_release(session: AsyncSession, lease_id: UUID, scope: Scope, *, reason: str) -> Lease | None:
    """Ends the live lease of any holder in the scope. None when there is none."""
    parameters = {
        "lease_id": lease_id,
        "ended_by": "forced",
        "reason": reason,
        **scope_parameters(scope),
    }
    return lease_from_rows(await session.execute(FORCE_RELEASE, parameters))


async def reap(
    session: AsyncSession, *, batch: int, latest: datetime | None, step: float = 0
) -> list[EndedLease]:
    """Closes up to `batch` leases that have expired by `latest`, the oldest first.

    Skips leases that are locked. `step`: the seconds by which a step of the clock made them expire early,
    else 0.
    """
    rows = await session.execute(REAP, {"batch": batch, "latest": latest, "step": step})
    return [
        EndedLease(Pool(row.project_id, Env(row.env), Domain(row.domain)), row.project_name, row.held_for)
        for row in rows
    ]


async def lock_user_of_lease(
    session: AsyncSession, lease_id: UUID, user_id: UUID, *, principal: str
) -> SealedCredentials | None:
    """Locks the user until the transaction ends. Returns the stored credentials.

    None unless the principal's live lease has this user.
    """
    parameters = {"lease_id": lease_id, "user_id": user_id, "principal": principal}
    row = (await session.execute(LOCK_USER_OF_LEASE, parameters)).one_or_none()
    return SealedCredentials(row.password, row.secrets, row.totp_seed) if row else None


async def write_back(session: AsyncSession, user_id: UUID, *, password: str, secrets: str | None) -> None:
    """Stores the credentials of a user that `lock_user_of_lease` has locked."""
    await session.execute(WRITE_BACK, {"user_id": user_id, "password": password, "secrets": secrets})
