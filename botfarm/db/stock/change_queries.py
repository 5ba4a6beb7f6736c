"""Marks of the farm, by project and env, that differ from those of a second ago where something has changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.shared.user_state import CLOCK
from botfarm.db.waiting.live_tickets import LIVE_TICKET, TICKETS

Place = tuple[UUID | None, str | None]
"""A project and an env. Null for entries of the audit of all envs, or of no project."""

LATE = 500
"""Numbers below the highest one whose rows may be committed after it."""
MOST = 10_000
"""New rows that one look reads of a table. A farm grants less than half as many leases in a second."""

# The cost depends on open leases, tickets and new rows alone, whatever the number of users and the length of the
# history. A lease that expires unseen changes its mark, because it is counted apart. The sum of the ends changes with
# a renewal, and the sum of the ids with a ticket that takes the place of another. ORDER BY and LIMIT keep the planner
# on the index of the numbers, because it does not know that few are higher than `after`.
LOOK = text(f"""
    SELECT 'leases' AS kind, project_id, env, CAST(NULL AS bigint[]) AS numbers,
           concat_ws(' ', count(*), count(*) FILTER (WHERE expires_at > c.now),
                     sum(extract(epoch FROM expires_at))) AS mark
    FROM leases, {CLOCK} WHERE ended_at IS NULL GROUP BY project_id, env
    UNION ALL
    SELECT 'tickets', t.project_id, t.env, NULL, concat_ws(' ', count(*), sum(t.id))
    FROM {TICKETS} WHERE {LIVE_TICKET} GROUP BY t.project_id, t.env
    UNION ALL
    SELECT 'grants', project_id, env, array_agg(fence), NULL FROM (
        SELECT project_id, env, fence FROM leases WHERE fence > :grants_after ORDER BY fence DESC LIMIT {MOST}
    ) AS granted GROUP BY project_id, env
    UNION ALL
    SELECT 'deeds', project_id, env, array_agg(id), NULL FROM (
        SELECT project_id, env, id FROM audit WHERE id > :deeds_after ORDER BY id DESC LIMIT {MOST}
    ) AS done GROUP BY project_id, env""")


@dataclass(frozen=True, slots=True)
class Look:
    """The marks and the newest numbers that one look has read."""

    marks: Mapping[tuple[str, Place], str]
    """By what is counted: open leases, or tickets."""
    grants: Mapping[Place, frozenset[int]]
    """Fences of the newest leases. A lease that has ended between two looks shows only here."""
    deeds: Mapping[Place, frozenset[int]]
    """Ids of the newest entries of the audit: every change of users, projects, tokens and operators."""


async def look(session: AsyncSession, *, grants_after: int, deeds_after: int) -> Look:
    """Reads the marks, and the numbers above those given."""
    marks: dict[tuple[str, Place], str] = {}
    newest: dict[str, dict[Place, frozenset[int]]] = {"grants": {}, "deeds": {}}
    parameters = {"grants_after": grants_after, "deeds_after": deeds_after}
    for row in await session.execute(LOOK, parameters):
        place = (row.project_id, row.env)
        if row.kind in newest:
            newest[row.kind][place] = frozenset(row.numbers)
        else:
            marks[row.kind, place] = row.mark
    return Look(marks, newest["grants"], newest["deeds"])
