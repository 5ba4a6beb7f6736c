"""Reads leases: one or many in a scope, one by its idempotency key, and the users that a principal holds."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing.lease_rows import CREDENTIALS, LEASE_COLUMNS, lease_from_rows, leases_from_rows
from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.domain.access import Scope
from botfarm.domain.leases import Lease, LeaseFilter, LeaseState

_READ = """
    FROM {leases} AS l
    LEFT JOIN projects AS p ON p.id = l.project_id
    LEFT JOIN users AS u ON u.id = ANY (l.user_ids) AND {users_within}"""


def _read(leases: str) -> str:
    """Leaves out users that were moved out of the reader's scope since, and deleted ones."""
    return _READ.format(leases=leases, users_within=within("u"))


_OF_ONE = f"""{_read("leases")} WHERE l.id = :lease_id AND {within("l")} ORDER BY u.id"""
GET = text(f"SELECT {LEASE_COLUMNS} {_OF_ONE}")
GET_WITH_CREDENTIALS = text(f"SELECT {LEASE_COLUMNS}, {CREDENTIALS} {_OF_ONE}")

_FOUND = f"""(
    SELECT * FROM leases AS found
    WHERE {within("found")} AND (CAST(:before AS bigint) IS NULL OR fence < :before)
      AND (CAST(:project_id AS uuid) IS NULL OR project_id = :project_id)
      AND (CAST(:env AS text) IS NULL OR env = :env)
      AND (CAST(:domain AS text) IS NULL OR domain = :domain)
      AND (CAST(:user_id AS uuid) IS NULL OR user_ids @> ARRAY[CAST(:user_id AS uuid)])
      AND (CAST(:owner AS text) IS NULL OR owner = :owner)
      AND (CAST(:principal AS text) IS NULL OR principal = :principal)
      AND (CAST(:active AS boolean) IS NULL
           OR :active = (ended_at IS NULL AND expires_at > clock_timestamp()))
    ORDER BY fence DESC LIMIT :limit)"""

LIST = text(f"SELECT {LEASE_COLUMNS} {_read(_FOUND)} ORDER BY l.fence DESC, u.id")


COUNT_HELD = text("""
    SELECT sum(cardinality(user_ids)) FROM leases
    WHERE principal = :principal AND ended_at IS NULL AND expires_at > clock_timestamp()""")

LEASE_BY_KEY = text(f"""
    SELECT {LEASE_COLUMNS}, {CREDENTIALS}
    FROM leases AS l
    LEFT JOIN projects AS p ON p.id = l.project_id
    LEFT JOIN users AS u ON u.id = ANY (l.user_ids)
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
        "user_id": chosen.user_id,
        "owner": chosen.owner,
        "principal": chosen.principal,
        "active": None if chosen.state is None else chosen.state is LeaseState.ACTIVE,
        "limit": limit,
        **scope_parameters(scope),
    }
    return list(leases_from_rows(await session.execute(LIST, parameters)))


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
