"""Lets time pass for a farm: moves every stored time into the past, which has the same effect."""

from datetime import timedelta

import asyncpg

_PASSES = """
    WITH moved AS (
        UPDATE users SET created_at = created_at - $1::interval, locktime = locktime - $1,
               expires_at = expires_at - $1, available_at = available_at - $1,
               status_since = status_since - $1, status_until = status_until - $1,
               quarantined_by_policy_at = quarantined_by_policy_at - $1, checked_at = checked_at - $1,
               healthy_at = healthy_at - $1, rotated_at = rotated_at - $1,
               session_expires_at = session_expires_at - $1
    )
    UPDATE leases SET acquired_at = acquired_at - $1, expires_at = expires_at - $1, hold_until = hold_until - $1,
           ended_at = ended_at - $1, requested_at = requested_at - $1"""


async def pass_time(sql: asyncpg.Connection, seconds: float) -> None:
    await sql.execute(_PASSES, timedelta(seconds=seconds))
