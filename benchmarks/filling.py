"""Adds users by the million, each with a password encrypted for its row, as an import adds them."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg

from benchmarks.database import HOLDER, execute, fetch_value, settle, with_connection
from botfarm.crypto.key_ring import KeyRing

_COLUMNS = ("id", "login", "password", "project_id", "env", "domain")

# Leases to HOLDER, one for each user, spread evenly over the pool: the ids, and so their order, are random.
_HOLD = """
    WITH chosen AS MATERIALIZED (
        SELECT id, env, domain, gen_random_uuid() AS lease_id, nextval('fence') AS fence,
               clock_timestamp() AS since, clock_timestamp() + $3::interval AS expires
        FROM (
            SELECT id, env, domain, row_number() OVER (ORDER BY id) AS place
            FROM users WHERE project_id = $1
        ) AS pool
        WHERE place % 100 < $2
    ),
    l AS (
        INSERT INTO leases (id, fence, principal, operation, project_id, env, domain, user_ids,
                            acquired_at, expires_at, ttl_seconds, hold_until)
        SELECT lease_id, fence, $4, 'acquire_lease', $1, env, domain, ARRAY[id], since, expires, 900,
               since + interval '1 day' FROM chosen
    )
    UPDATE users SET locktime = since, expires_at = expires, lease_id = chosen.lease_id, fence = chosen.fence,
           available_at = expires + interval '15 s'
    FROM chosen WHERE users.id = chosen.id"""


_ADD_PROJECT = """
    INSERT INTO projects (id, name, default_ttl, max_ttl, max_hold, lock_delay, cooldown)
    VALUES (gen_random_uuid(), $1, 900, 14400, 43200, 15, 0) RETURNING id"""


def add_project(url: str, name: str) -> UUID:
    """Adds a project with SQL, for a database without an API. Returns its id."""
    project_id: UUID = fetch_value(url, _ADD_PROJECT, name)
    return project_id


def add_users(url: str, key_ring: KeyRing, project_id: UUID, count: int) -> None:
    async def copy(connection: asyncpg.Connection) -> None:
        await connection.copy_records_to_table(
            "users", records=_users(key_ring, project_id, count), columns=_COLUMNS
        )

    with_connection(url, copy)


def hold_users(url: str, project_id: UUID, *, percent: int, seconds: float = 50_000) -> None:
    """Leases that share of the pool to HOLDER, whose leases are never measured."""
    execute(url, _HOLD, project_id, percent, timedelta(seconds=seconds), HOLDER)
    settle(url)


def _users(
    key_ring: KeyRing, project_id: UUID, count: int
) -> Iterator[tuple[UUID, str, str, UUID, str, str]]:
    for number in range(count):
        user_id = uuid4()
        password = key_ring.encrypt(f"correct horse {number}", row_id=user_id, field="password")
        yield user_id, f"user-{number}@shop.test", password, project_id, "stage", "regular"
