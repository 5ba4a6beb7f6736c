"""What the database kept, read after the last fault, when all clients have stopped."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import asyncpg

from botfarm.domain.access import THE_POLICY
from chaos.checker.found_passwords import Passwords

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class KeptLease:
    """A row of `leases`. Ids are text, as clients see them."""

    id: str
    fence: int
    principal: str
    operation: str
    purpose: str
    pool: tuple[str, str, str]
    users: tuple[str, ...]
    acquired_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None
    outcome: str | None = None
    reason: str | None = None
    key: str | None = None
    requested_at: datetime | None = None
    waited: float | None = None
    priority: int = 0
    request_id: str | None = None
    """Of the request that it was granted to."""

    @property
    def end(self) -> datetime:
        """When it ended, or will end unless it is renewed."""
        return self.ended_at or self.expires_at


@dataclass(frozen=True, slots=True)
class Cap:
    """Principals, by the beginning of their names, may hold `most` users at once: each of them, or all together."""

    principals: str
    most: int
    together: bool = False


@dataclass(slots=True)
class Kept:
    now: datetime
    """The database's clock when it was read."""
    leases: dict[str, KeptLease] = field(default_factory=dict)
    users: dict[str, Row] = field(default_factory=dict)
    tickets: list[Row] = field(default_factory=list)
    projects: dict[str, Row] = field(default_factory=dict)
    caps: list[Cap] = field(default_factory=list)
    audited: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often the audit has an action with the id of a target, not counting what policies did by themselves."""
    tokens: set[str] = field(default_factory=set)
    """The ids of those that nobody has revoked."""
    said: dict[int, list[Row]] = field(default_factory=dict)
    """By fence: what releases said of single users."""
    rollups: list[Row] = field(default_factory=list)
    rolled_up_until: datetime | None = None
    """When the rollups were last computed."""
    passwords_in: list[str] = field(default_factory=list)
    """Tables with a password in plain text, with the first column of the row."""


# The names of principals, as leases keep them. A rule may be made again under its name, with another cap.
_CAPS = """
    SELECT 'token:' || name || ':' || id, max_leases, false FROM tokens WHERE max_leases IS NOT NULL
    UNION ALL
    SELECT 'ci:' || name || ':', max(max_leases), false FROM trust_rules
    GROUP BY name HAVING count(max_leases) = count(*)
    UNION ALL
    SELECT 'ci:' || name || ':', max(max_leases_of_all), true FROM trust_rules
    GROUP BY name HAVING count(max_leases_of_all) = count(*)"""

_AUDITED = "SELECT action, target_id, count(*) FROM audit WHERE principal <> $1 GROUP BY action, target_id"
_TOKENS = "SELECT id FROM tokens WHERE revoked_at IS NULL"


async def read_kept(database_url: str, passwords: Passwords | None = None) -> Kept:
    """Reads all that the rules need, and looks for `passwords` in each table."""
    connection = await asyncpg.connect(database_url.replace("postgresql+asyncpg://", "postgresql://"))
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            kept = Kept(now=await connection.fetchval("SELECT clock_timestamp()"))
            async for row in connection.cursor("SELECT * FROM leases ORDER BY fence"):
                lease = _lease(row)
                kept.leases[lease.id] = lease
            kept.users = {str(row["id"]): row for row in await connection.fetch("SELECT * FROM users")}
            kept.tickets = await connection.fetch("SELECT * FROM tickets ORDER BY id")
            kept.projects = {str(row["id"]): row for row in await connection.fetch("SELECT * FROM projects")}
            kept.caps = [Cap(*row) for row in await connection.fetch(_CAPS)]
            async for action, target, times in connection.cursor(_AUDITED, THE_POLICY.name):
                kept.audited[action, target] = times
            kept.tokens = {row["id"] for row in await connection.fetch(_TOKENS)}
            async for row in connection.cursor("SELECT * FROM lease_users WHERE outcome IS NOT NULL"):
                kept.said.setdefault(row["fence"], []).append(row)
            kept.rollups = await connection.fetch("SELECT * FROM rollups ORDER BY hour")
            kept.rolled_up_until = await connection.fetchval("SELECT max(observed_until) FROM rollup_hours")
            kept.passwords_in = [found async for found in _tables_with(connection, passwords or Passwords())]
        return kept
    finally:
        await connection.close()


def _lease(row: Row) -> KeptLease:
    return KeptLease(
        id=str(row["id"]),
        fence=row["fence"],
        principal=row["principal"],
        operation=row["operation"],
        purpose=row["purpose"] or "test",
        pool=(str(row["project_id"]), row["env"], row["domain"]),
        users=tuple(map(str, row["user_ids"])),
        acquired_at=row["acquired_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
        ended_by=row["ended_by"],
        outcome=row["outcome"],
        reason=row["reason"],
        key=row["idempotency_key"],
        requested_at=row["requested_at"],
        waited=row["waited"],
        priority=row["priority"] or 0,
        request_id=row["request_id"],
    )


async def _tables_with(connection: asyncpg.Connection, passwords: Passwords) -> Any:
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    for (table,) in tables:
        async for (row,) in connection.cursor(f'SELECT t::text FROM public."{table}" AS t', prefetch=1000):
            if passwords.in_text(row):
                yield f"{table}: {row.partition(',')[0]}..."
