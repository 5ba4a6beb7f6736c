"""Finds the users of a bulk change, deletes or labels them, and says why some were left out."""

import json
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.scope_filter import scope_parameters, within
from botfarm.db.stock import user_reading_queries
from botfarm.db.stock.status_queries import ChangedUser, changed_user
from botfarm.domain.access import Scope
from botfarm.domain.pools import Pool
from botfarm.domain.users import MAX_LABELS, BulkAction, BulkFailure, UserFilter

NAMED = text(f"""
    SELECT u.id, u.project_id, u.env, u.domain FROM users AS u
    WHERE u.id = ANY (CAST(:ids AS uuid[])) AND {within("u")}
    ORDER BY u.project_id, u.env, u.domain, u.id""")

_CHOSEN = f"""
    chosen AS MATERIALIZED (
        SELECT u.id FROM users AS u
        WHERE u.id = ANY (CAST(:ids AS uuid[])) AND {within("u")} ORDER BY u.id FOR UPDATE
    )"""

DELETE = text(f"""
    WITH {_CHOSEN}
    DELETE FROM users AS u USING chosen, projects AS p
    WHERE u.id = chosen.id AND p.id = u.project_id
      AND (u.locktime IS NULL OR u.expires_at <= clock_timestamp())
    RETURNING u.id, u.project_id, u.env, u.domain, p.name AS project_name""")

LABEL = text(f"""
    WITH {_CHOSEN},
    labelled AS MATERIALIZED (
        SELECT u.id, (u.labels - CAST(:removed AS text[])) || CAST(:added AS jsonb) AS labels
        FROM chosen JOIN users AS u ON u.id = chosen.id
    )
    UPDATE users AS u SET labels = labelled.labels
    FROM labelled, projects AS p
    WHERE u.id = labelled.id AND p.id = u.project_id
      AND (SELECT count(*) FROM jsonb_object_keys(labelled.labels)) <= {MAX_LABELS}
    RETURNING u.id, u.project_id, u.env, u.domain, p.name AS project_name""")

WHY_NOT = text(f"""
    SELECT u.id, u.login, u.status, u.locktime IS NOT NULL AND u.expires_at > clock_timestamp() AS is_leased
    FROM users AS u WHERE u.id = ANY (CAST(:ids AS uuid[])) AND {within("u")}""")


async def find(
    session: AsyncSession, chosen: UserFilter | Sequence[UUID], scope: Scope, *, limit: int
) -> list[tuple[UUID, Pool]]:
    """Up to `limit` users of the scope with their pools, in the order of the pool index."""
    if isinstance(chosen, UserFilter):
        users = await user_reading_queries.list_users(session, chosen, scope, after=None, limit=limit)
        return [(user.id, user.pool) for user in users]
    rows = await session.execute(NAMED, {"ids": list(chosen), **scope_parameters(scope)})
    return [(row.id, Pool(row.project_id, row.env, row.domain)) for row in rows]


async def delete(session: AsyncSession, ids: Collection[UUID], scope: Scope) -> list[ChangedUser]:
    """All but leased users."""
    rows = await session.execute(DELETE, {"ids": list(ids), **scope_parameters(scope)})
    return [changed_user(row) for row in rows]


async def label(
    session: AsyncSession, ids: Collection[UUID], scope: Scope, *, labels: Mapping[str, str | None]
) -> list[ChangedUser]:
    """Merges the labels; null removes one. All but users that would have too many."""
    parameters = {
        "ids": list(ids),
        "added": json.dumps({key: value for key, value in labels.items() if value is not None}),
        "removed": [key for key, value in labels.items() if value is None],
        **scope_parameters(scope),
    }
    return [changed_user(row) for row in await session.execute(LABEL, parameters)]


async def why_not(
    session: AsyncSession, ids: Collection[UUID], action: BulkAction, scope: Scope
) -> list[BulkFailure]:
    """Why a change has left these users out. Users that were as wished already are no failures."""
    rows = await session.execute(WHY_NOT, {"ids": list(ids), **scope_parameters(scope)})
    found = {row.id: row for row in rows}
    failures = []
    for user_id in ids:
        row = found.get(user_id)
        if row is None:
            failures.append(BulkFailure(user_id, None, "no-such-user"))
        elif action is BulkAction.DELETE and row.is_leased:
            failures.append(BulkFailure(user_id, row.login, "user-busy"))
        elif action is BulkAction.LABEL:
            failures.append(BulkFailure(user_id, row.login, "invalid-request"))
        elif row.status == "retired":
            failures.append(BulkFailure(user_id, row.login, "user-retired"))
    return failures
