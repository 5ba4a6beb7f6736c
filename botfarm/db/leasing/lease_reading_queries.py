"""Reads leases: one or many in a scope, one by its idempotency key, and the users that a principal holds."""

from uuid import UUID

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import (
    CREDENTIALS,
    LEASE_COLUMNS,
    LEASE_USER,
    OF_USER,
    lease_from_rows,
    leases_from_rows,
)
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Scope
from botfarm.domain.leases import Lease, LeaseFilter, LeaseState

_READ = """
    FROM {leases} AS l
    LEFT JOIN projects AS p ON p.id = l.project_id
    LEFT JOIN users AS u ON u.id = ANY (l.user_ids) AND {users_within}
    {of_user}"""


def _read(leases: str) -> str:
    """Leaves out users that were moved out of the reader's scope since, and deleted ones."""
    return _READ.format(leases=leases, users_within=within("u"), of_user=LEASE_USER)


_OF_ONE = f"""{_read("leases")} WHERE l.id = :lease_id AND {within("l")} ORDER BY u.id"""
GET = text(f"SELECT {LEASE_COLUMNS}, {OF_USER} {_OF_ONE}")
GET_WITH_CREDENTIALS = text(f"SELECT {LEASE_COLUMNS}, {OF_USER}, {CREDENTIALS} {_OF_ONE}")


def _list(leases: str, fence: str) -> TextClause:
    """The newest first; `fence` is the column whose index gives this order."""
    found = f"""(
    SELECT found.* FROM {leases}
    WHERE {within("found")} AND (CAST(:before AS bigint) IS NULL OR {fence} < :before)
      AND (CAST(:project_id AS uuid) IS NULL OR found.project_id = :project_id)
      AND (CAST(:env AS text) IS NULL OR found.env = :env)
      AND (CAST(:domain AS text) IS NULL OR found.domain = :domain)
      AND (CAST(:owner AS text) IS NULL OR found.owner = :owner)
      AND (CAST(:principal AS text) IS NULL OR found.principal = :principal)
      AND (CAST(:purpose AS text) IS NULL OR coalesce(found.purpose, 'test') = :purpose)
      AND (CAST(:active AS boolean) IS NULL
           OR :active = (found.ended_at IS NULL AND found.expires_at > clock_timestamp()))
    ORDER BY {fence} DESC LIMIT :limit)"""
    return text(f"SELECT {LEASE_COLUMNS}, {OF_USER} {_read(found)} ORDER BY l.fence DESC, u.id")


LIST = _list("leases AS found", "found.fence")
LIST_OF_USER = _list(
    "lease_users AS of_user JOIN leases AS found ON of_user.user_id = :user_id AND found.fence = of_user.fence",
    "of_user.fence",
)


COUNT_HELD = text("""
    SELECT sum(cardinality(user_ids)) FROM leases
    WHERE principal = :principal AND ended_at IS NULL AND expires_at > clock_timestamp()""")

COUNT_HELD_BY_ALL = text("""
    SELECT sum(cardinality(user_ids)) FROM leases
    WHERE starts_with(principal, :beginning) AND ended_at IS NULL AND expires_at > clock_timestamp()""")

LEASE_BY_KEY = text(f"""
    SELECT {LEASE_COLUMNS}, {OF_USER}, {CREDENTIALS}
    FROM leases AS l
    LEFT JOIN projects AS p ON p.id = l.project_id
    LEFT JOIN users AS u ON u.id = ANY (l.user_ids)
    {LEASE_USER}
    WHERE l.principal = :principal AND l.idempotency_key = :idempotency_key
    ORDER BY u.id""")


async def get_lease(
    session: AsyncSession, lease_id: UUID, scope: Scope, *, with_credentials: bool = False
) -> Lease | None:
    statement = GET_WITH_CREDENTIALS if with_credentials else GET
    return lease_from_rows(
        await session.execute(statement, {"lease_id": lease_id, **scope_parameters(scope)})
    )


async def list_leases(
    session: AsyncSession, chosen: LeaseFilter, scope: Scope, *, before_fence: int | None, limit: int
) -> list[Lease]:
    """The newest first."""
    parameters = {
        "before": before_fence,
        "project_id": chosen.project_id,
        "env": chosen.env,
        "domain": chosen.domain,
        **({} if chosen.user_id is None else {"user_id": chosen.user_id}),
        "purpose": chosen.purpose,
        "owner": chosen.owner,
        "principal": chosen.principal,
        "active": None if chosen.state is None else chosen.state is LeaseState.ACTIVE,
        "limit": limit,
        **scope_parameters(scope),
    }
    statement = LIST if chosen.user_id is None else LIST_OF_USER
    return list(leases_from_rows(await session.execute(statement, parameters)))


async def lease_by_key(session: AsyncSession, principal: str, idempotency_key: str) -> Lease | None:
    """The lease that the principal took under the key, live or ended, with the stored credentials."""
    parameters = {"principal": principal, "idempotency_key": idempotency_key}
    return lease_from_rows(await session.execute(LEASE_BY_KEY, parameters))


async def count_held(session: AsyncSession, principal: str) -> int:
    """The users in live leases of the principal.

    Call it after `lock_principal`, as a statement of its own, because the snapshot of one statement would be
    older than the lock.
    """
    return int(await session.scalar(COUNT_HELD, {"principal": principal}) or 0)


async def count_held_by_all(session: AsyncSession, beginning: str) -> int:
    """As `count_held`, for all principals whose names begin so. Reads every live lease."""
    return int(await session.scalar(COUNT_HELD_BY_ALL, {"beginning": beginning}) or 0)
