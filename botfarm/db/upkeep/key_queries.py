"""Counts stored values by the key that encrypted them, and replaces values by the same under another key."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.crypto.key_ring import is_key_id
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.pools import Pool

# The key's id is in a value's first characters, so a long value is not fetched whole. A value that does not
# begin with `v1.` may be clear text, with dots in it.
_KEY_ID = "CASE WHEN starts_with({0}, 'v1.') IS FALSE THEN '' ELSE split_part(left({0}, 36), '.', 2) END"

# One scan, whatever the number of keys: rows are counted by group first, then the columns of the few groups
# are added up.
ENCRYPTED_VALUES = text(f"""
    SELECT key_id, CAST(sum(users) AS bigint) AS values
    FROM (SELECT {_KEY_ID.format("password")} AS password, {_KEY_ID.format("secrets")} AS secrets,
                 {_KEY_ID.format("totp_seed")} AS totp_seed, {_KEY_ID.format("pending_password")} AS pending,
                 count(*) AS users
          FROM users GROUP BY 1, 2, 3, 4) AS counted,
         LATERAL (VALUES (password), (secrets), (totp_seed), (pending)) AS each (key_id)
    WHERE key_id IS NOT NULL GROUP BY key_id""")

_STORED = "id, project_id, env, domain, password, secrets, totp_seed, pending_password"

SOME_UNDER = text(f"""
    SELECT {_STORED} FROM users
    WHERE starts_with(password, :prefix) OR starts_with(secrets, :prefix) OR starts_with(totp_seed, :prefix)
       OR starts_with(pending_password, :prefix)
    LIMIT :limit""")

PAGE = text(f"""
    SELECT {_STORED} FROM users
    WHERE (project_id, env, domain, id) > (:project_id, :env, :domain, :id)
    ORDER BY project_id, env, domain, id LIMIT :limit""")

BY_ID = text(f"""
    SELECT {_STORED} FROM users WHERE id = ANY (CAST(:ids AS uuid[])) ORDER BY project_id, env, domain, id""")

# Skips locked users, because their lock's holder may be waiting for the pool's lock, which the caller holds.
REPLACE = text("""
    WITH chosen AS MATERIALIZED (
        SELECT u.id, new.password, new.secrets, new.totp_seed, new.pending_password
        FROM unnest(CAST(:ids AS uuid[]),
                    CAST(:old_passwords AS text[]), CAST(:old_secrets AS text[]),
                    CAST(:old_totp_seeds AS text[]), CAST(:old_pending_passwords AS text[]),
                    CAST(:passwords AS text[]), CAST(:secrets AS text[]), CAST(:totp_seeds AS text[]),
                    CAST(:pending_passwords AS text[]))
             AS new (id, old_password, old_secrets, old_totp_seed, old_pending_password,
                     password, secrets, totp_seed, pending_password)
        JOIN users AS u ON u.id = new.id
        WHERE u.project_id = :project_id AND u.env = :env AND u.domain = :domain
          AND u.password IS NOT DISTINCT FROM new.old_password
          AND u.secrets IS NOT DISTINCT FROM new.old_secrets
          AND u.totp_seed IS NOT DISTINCT FROM new.old_totp_seed
          AND u.pending_password IS NOT DISTINCT FROM new.old_pending_password
        FOR UPDATE OF u SKIP LOCKED
    )
    UPDATE users SET password = chosen.password, secrets = chosen.secrets, totp_seed = chosen.totp_seed,
           pending_password = chosen.pending_password
    FROM chosen WHERE users.id = chosen.id
    RETURNING users.id""")

STATEMENT_TIMEOUT = text("SELECT set_config('statement_timeout', :milliseconds, true)")


@dataclass(frozen=True, slots=True)
class StoredUser:
    id: UUID
    pool: Pool
    sealed: SealedCredentials


async def be_patient(session: AsyncSession, *, seconds: float) -> None:
    """Lets each statement of this transaction take `seconds`."""
    await session.execute(STATEMENT_TIMEOUT, {"milliseconds": str(int(seconds * 1_000))})


async def encrypted_values(session: AsyncSession) -> dict[str, int]:
    """Number of stored values by the id of their key; under the empty id, values that are not encrypted."""
    values: Counter[str] = Counter()
    for row in (await session.execute(ENCRYPTED_VALUES)).mappings():
        values[row["key_id"] if is_key_id(row["key_id"]) else ""] += row["values"]
    return dict(sorted(values.items()))


async def some_users_under(session: AsyncSession, key_id: str, *, limit: int) -> list[StoredUser]:
    """Users with a value that this key has encrypted."""
    parameters = {"prefix": f"v1.{key_id}.", "limit": limit}
    return [_stored_user(row) for row in await session.execute(SOME_UNDER, parameters)]


async def page_of_users(session: AsyncSession, *, after: StoredUser | None, limit: int) -> list[StoredUser]:
    """In the order of the pool index: by project, env, domain, id."""
    start = {"project_id": UUID(int=0), "env": "", "domain": "", "id": UUID(int=0)}
    keyset = {**_in_pool(after.pool), "id": after.id} if after else start
    return [_stored_user(row) for row in await session.execute(PAGE, {**keyset, "limit": limit})]


async def users_by_id(session: AsyncSession, ids: Sequence[UUID]) -> list[StoredUser]:
    """The users that still exist, in the same order."""
    return [_stored_user(row) for row in await session.execute(BY_ID, {"ids": list(ids)})]


async def replace_credentials(
    session: AsyncSession, pool: Pool, changes: Sequence[tuple[StoredUser, SealedCredentials]]
) -> set[UUID]:
    """Replaces the credentials and returns the users' ids.

    Skips a user that is locked, has left the pool or was changed since.
    """
    parameters = {
        **_in_pool(pool),
        "ids": [user.id for user, _ in changes],
        "old_passwords": [user.sealed.password for user, _ in changes],
        "old_secrets": [user.sealed.secrets for user, _ in changes],
        "old_totp_seeds": [user.sealed.totp_seed for user, _ in changes],
        "old_pending_passwords": [user.sealed.pending_password for user, _ in changes],
        "passwords": [new.password for _, new in changes],
        "secrets": [new.secrets for _, new in changes],
        "totp_seeds": [new.totp_seed for _, new in changes],
        "pending_passwords": [new.pending_password for _, new in changes],
    }
    return set(await session.scalars(REPLACE, parameters))


def _in_pool(pool: Pool) -> dict[str, object]:
    return {"project_id": pool.project_id, "env": pool.env, "domain": pool.domain}


def _stored_user(row: Row[Any]) -> StoredUser:
    pool = Pool(row.project_id, row.env, row.domain)
    sealed = SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password)
    return StoredUser(row.id, pool, sealed)
