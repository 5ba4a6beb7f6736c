"""Finds the users that an import names and that are there already, locks them and changes them."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.stock.user_queries import NewUser
from botfarm.domain.credentials import SealedCredentials
from botfarm.domain.health import Health
from botfarm.domain.leases import REJECTED
from botfarm.domain.pools import Pool
from botfarm.domain.users import POLICY, UserStatus

_PRESENT = """
    u.id, u.project_id, u.env, u.domain, u.login_key, u.password, u.secrets, u.totp_seed, u.pending_password,
    u.labels"""

BY_LOGIN = text(f"""
    SELECT {_PRESENT}
    FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:login_keys AS text[]))
         AS named (project_id, env, login_key)
    JOIN users AS u
      ON u.project_id = named.project_id AND u.env = named.env AND u.login_key = named.login_key""")

LOCK = text(f"""
    SELECT {_PRESENT} FROM users AS u WHERE u.id = ANY (CAST(:ids AS uuid[])) ORDER BY u.id FOR UPDATE""")

_REJECTED = ", ".join(f"'{reason}'" for reason in sorted(REJECTED))
_REJECTED_BY_POLICY = f"""
    new.signs_in_anew AND u.status = '{UserStatus.QUARANTINED}' AND u.status_by = '{POLICY}'
    AND u.status_reason IN ({_REJECTED})"""
_FAILING = f"new.signs_in_anew AND u.health = '{Health.FAILING}'"

# New credentials may work where the old ones were rejected: a keeper finds out, as after a change by hand.
UPDATE = text(f"""
    UPDATE users AS u
    SET password = new.password, secrets = new.secrets, totp_seed = new.totp_seed,
        labels = CAST(new.labels AS jsonb),
        health = CASE WHEN {_FAILING} THEN '{Health.UNKNOWN}' ELSE u.health END,
        health_reason = CASE WHEN {_FAILING} THEN NULL ELSE u.health_reason END,
        status = CASE WHEN {_REJECTED_BY_POLICY} THEN '{UserStatus.DIRTY}' ELSE u.status END,
        status_reason = CASE WHEN {_REJECTED_BY_POLICY} THEN NULL ELSE u.status_reason END
    FROM unnest(CAST(:ids AS uuid[]), CAST(:passwords AS text[]), CAST(:secrets AS text[]),
                CAST(:totp_seeds AS text[]), CAST(:labels AS text[]), CAST(:anew AS boolean[]))
         AS new (id, password, secrets, totp_seed, labels, signs_in_anew)
    WHERE u.id = new.id""")


@dataclass(frozen=True, slots=True)
class PresentUser:
    """A user that is there, as it is stored."""

    id: UUID
    pool: Pool
    login_key: str
    sealed: SealedCredentials
    labels: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """What a line makes of a user that is there."""

    user: PresentUser
    sealed: SealedCredentials
    labels: dict[str, str] = field(repr=False)
    changed: tuple[str, ...]
    """The names of the fields that differ."""

    @property
    def signs_in_anew(self) -> bool:
        return not {"password", "totp_seed"}.isdisjoint(self.changed)


async def present_users(session: AsyncSession, users: Collection[NewUser]) -> list[PresentUser]:
    """The stored users of the same project, env and login."""
    parameters = {
        "project_ids": [user.pool.project_id for user in users],
        "envs": [user.pool.env for user in users],
        "login_keys": [user.login_key for user in users],
    }
    return [_present(row) for row in await session.execute(BY_LOGIN, parameters)]


async def lock_users(session: AsyncSession, ids: Sequence[UUID]) -> list[PresentUser]:
    """Those that are left of the users, locked until the transaction ends."""
    return [_present(row) for row in await session.execute(LOCK, {"ids": list(ids)})]


async def update_users(session: AsyncSession, updates: Sequence[UserUpdate]) -> None:
    """Changes users that `lock_users` has locked."""
    parameters = {
        "ids": [each.user.id for each in updates],
        "passwords": [each.sealed.password for each in updates],
        "secrets": [each.sealed.secrets for each in updates],
        "totp_seeds": [each.sealed.totp_seed for each in updates],
        "labels": [json.dumps(each.labels) for each in updates],
        "anew": [each.signs_in_anew for each in updates],
    }
    await session.execute(UPDATE, parameters)


def _present(row: Row[Any]) -> PresentUser:
    return PresentUser(
        row.id,
        Pool(row.project_id, row.env, row.domain),
        row.login_key,
        SealedCredentials(row.password, row.secrets, row.totp_seed, row.pending_password),
        row.labels,
    )
