"""The line of those who wait for users of a pool: their tickets, and what is asked to find out whose turn it is.

A ticket is live while its deadline is ahead and its replica is seen. Only its own replica grants it, by the statement
that also deletes it: whoever deletes a ticket has decided what became of it.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.postgres.driver import Executor
from botfarm.db.postgres.listener import SAY_FREED
from botfarm.db.shared.user_state import CLOCK
from botfarm.domain.pools import Pool
from botfarm.domain.waiting import Line, Place, WaitingRequest

# Conditions on `FROM {TICKETS}`. A place that is only kept has no replica, so it is never live.
TICKETS = "tickets AS t JOIN replicas AS r ON r.id = t.replica"
LIVE_TICKET = "t.deadline > clock_timestamp() AND r.seen_at > clock_timestamp() - interval '5 seconds'"
OF_POOL = "{0}.project_id = :project_id AND {0}.env = :env AND {0}.domain = :domain"

# Seconds that a place is kept for the key that may come back for it.
KEPT_FOR = 10.0

# The newest request owns the ticket of its key, at the place of the first one, unless that place is not kept any more.
# A place is that of the moment when the request arrived, however long it then took to get here; but never before those
# that its process parked earlier, whose statements may have been on their way for longer. In the order of their keys:
# two statements never wait for each other.
PARK = text(f"""
    WITH new AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('tickets', 'id')) AS id, w.*,
               least(c.now, greatest(c.now - make_interval(secs => w.since), CAST(:not_before AS timestamptz))) AS arrived_at,
               c.now + make_interval(secs => w.seconds) AS deadline
        FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]), CAST(:labels AS text[]),
                    CAST(:counts AS integer[]), CAST(:priorities AS integer[]), CAST(:since AS float8[]),
                    CAST(:seconds AS float8[]), CAST(:principals AS text[]), CAST(:owners AS text[]),
                    CAST(:idempotency_keys AS text[]), CAST(:fingerprints AS bytea[])) WITH ORDINALITY
             AS w (project_id, env, domain, labels, count, priority, since, seconds, principal, owner, idempotency_key,
                   fingerprint, position), {CLOCK}
    ),
    parked AS (
        INSERT INTO tickets AS t (id, project_id, env, domain, labels, count, priority, rank, arrived_at, replica, deadline,
                                  principal, owner, idempotency_key, fingerprint)
        OVERRIDING SYSTEM VALUE
        SELECT id, project_id, env, domain, CAST(labels AS jsonb), count, priority,
               arrived_at - priority * interval '60 seconds', arrived_at, :replica, deadline, principal, owner,
               idempotency_key, fingerprint
        FROM new ORDER BY principal, idempotency_key, id
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO UPDATE
        SET project_id = excluded.project_id, env = excluded.env, domain = excluded.domain, labels = excluded.labels,
            count = excluded.count, priority = excluded.priority, owner = excluded.owner,
            fingerprint = excluded.fingerprint, replica = excluded.replica, deadline = excluded.deadline,
            rank = CASE WHEN t.deadline > clock_timestamp() THEN t.rank ELSE excluded.rank END,
            arrived_at = CASE WHEN t.deadline > clock_timestamp() THEN t.arrived_at ELSE excluded.arrived_at END
        WHERE t.fingerprint = excluded.fingerprint OR t.deadline <= clock_timestamp()
        RETURNING id, deadline, principal, idempotency_key, arrived_at
    )
    SELECT new.position, new.arrived_at, parked.id, parked.deadline,
           extract(epoch FROM clock_timestamp() - parked.arrived_at)::float8 AS waited
    FROM parked JOIN new ON parked.id = new.id
                         OR (parked.principal = new.principal AND parked.idempotency_key = new.idempotency_key)""")

HAS_LEASE = text("""
    SELECT EXISTS (SELECT FROM leases WHERE principal = :principal AND idempotency_key = :idempotency_key)""")

# `s` are the sets of labels that are waited for, `m` which of the users match which of them. A ticket of a set stands
# behind as many others of it as there are free users: it and those after it cannot go. One that wants more users than
# could ever be free together is not looked at. Where nobody asks for labels, those of the users make no difference.
# MATERIALIZED is for the planner, which expects one ticket, and would compute for each of a thousand what is once for all.
LINE = text(f"""
    WITH t AS MATERIALIZED (
        SELECT t.id, t.labels, t.count, t.rank, t.replica = :replica AS is_ours,
               dense_rank() OVER (ORDER BY t.labels) AS number
        FROM {TICKETS} WHERE {OF_POOL.format("t")} AND {LIVE_TICKET}
    ),
    s AS MATERIALIZED (SELECT DISTINCT number, labels FROM t),
    u AS MATERIALIZED (
        SELECT g.labels, count(*) AS active, count(*) FILTER (WHERE g.available_at <= c.now) AS free,
               min(g.available_at) FILTER (WHERE g.available_at > c.now) - min(c.now) AS due_in
        FROM (
            SELECT CASE WHEN (SELECT bool_and(labels = '{{}}') FROM s) THEN '{{}}' ELSE u.labels END AS labels, u.available_at
            FROM users AS u WHERE {OF_POOL.format("u")} AND u.status = 'active'
        ) AS g, {CLOCK}
        GROUP BY g.labels
    ),
    m AS MATERIALIZED (SELECT s.number, u.labels, u.active, u.free FROM s JOIN u ON u.labels @> s.labels),
    matching AS MATERIALIZED (SELECT number, sum(active) AS active, sum(free) AS free FROM m GROUP BY number),
    line AS (
        SELECT t.id, t.rank, t.count, t.is_ours, t.number, matching.free,
               row_number() OVER (PARTITION BY t.number ORDER BY t.rank, t.id) AS nth
        FROM t JOIN matching ON matching.number = t.number
        WHERE matching.free > 0 AND matching.active >= t.count
    )
    SELECT (SELECT jsonb_agg(jsonb_build_array(id, number, count, is_ours) ORDER BY rank, id)
            FROM line WHERE nth <= free) AS places,
           (SELECT jsonb_agg(jsonb_build_array(numbers, free)) FROM (
                SELECT jsonb_agg(number) AS numbers, max(free) AS free FROM m WHERE free > 0 GROUP BY labels
            ) AS groups) AS free,
           (SELECT extract(epoch FROM min(due_in))::float8 FROM u) AS due_in""")

# The deadline tells a ticket from the same one after a re-post took it over, which is not to leave.
LEAVE = text(f"""
    WITH mine AS MATERIALIZED (
        SELECT t.id, t.project_id, t.env, t.domain, leaving.is_kept AND t.idempotency_key IS NOT NULL AS is_kept
        FROM tickets AS t JOIN unnest(CAST(:ids AS bigint[]), CAST(:deadlines AS timestamptz[]), CAST(:are_kept AS boolean[]))
             AS leaving (id, deadline, is_kept) ON leaving.id = t.id
        WHERE t.replica = :replica AND t.deadline = leaving.deadline
        ORDER BY t.id FOR UPDATE OF t
    ),
    deleted AS (DELETE FROM tickets USING mine WHERE tickets.id = mine.id AND NOT mine.is_kept),
    kept AS (
        UPDATE tickets SET replica = NULL, deadline = clock_timestamp() + make_interval(secs => {KEPT_FOR})
        FROM mine WHERE tickets.id = mine.id AND mine.is_kept
    ),
    line AS (
        SELECT t.id, row_number() OVER (PARTITION BY t.project_id, t.env, t.domain ORDER BY t.rank, t.id) AS place,
               count(*) OVER (PARTITION BY t.project_id, t.env, t.domain) AS waiting
        FROM tickets AS t LEFT JOIN replicas AS r ON r.id = t.replica
        WHERE (t.project_id, t.env, t.domain) IN (SELECT project_id, env, domain FROM mine)
          AND (({LIVE_TICKET}) OR t.id IN (SELECT id FROM mine))
    )
    SELECT line.id, line.place, line.waiting FROM line JOIN mine ON mine.id = line.id""")

SEEN = text("""
    INSERT INTO replicas (id, seen_at) VALUES (:replica, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()""")

STRAYS = text("""
    SELECT id, deadline FROM tickets WHERE replica = :replica AND id <> ALL (CAST(:known AS bigint[]))""")

NOTIFY = text(SAY_FREED.format(projects=":projects"))


@dataclass(frozen=True, slots=True)
class Arriving:
    """A request that comes to wait."""

    request: WaitingRequest
    since: float
    """Seconds since it was received."""
    seconds: float
    """How long it still waits."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A ticket as its owner knows it."""

    id: int
    deadline: datetime
    waited: float = 0
    """Seconds, when it was parked, since the first request of its key."""


@dataclass(frozen=True, slots=True)
class Left:
    """Where a ticket stood when it left."""

    place: int
    waiting: int


async def park(
    session: AsyncSession, arrivals: Sequence[Arriving], *, replica: UUID, not_before: datetime | None
) -> tuple[list[Parked | None], datetime | None]:
    """A place in the line for each, and the moment of the latest one. A key may be there once.

    None when the key has a place for another request.
    """
    requests = [each.request for each in arrivals]
    parameters = {
        "replica": replica,
        "not_before": not_before,
        "project_ids": [each.pool.project_id for each in requests],
        "envs": [each.pool.env.value for each in requests],
        "domains": [each.pool.domain.value for each in requests],
        "labels": [json.dumps(dict(each.labels)) for each in requests],
        "counts": [each.count for each in requests],
        "priorities": [each.priority for each in requests],
        "since": [each.since for each in arrivals],
        "seconds": [each.seconds for each in arrivals],
        "principals": [each.principal for each in requests],
        "owners": [each.owner for each in requests],
        "idempotency_keys": [each.idempotency_key for each in requests],
        "fingerprints": [each.fingerprint for each in requests],
    }
    rows = (await session.execute(PARK, parameters)).all()
    parked = {row.position: Parked(row.id, row.deadline, row.waited) for row in rows}
    latest = max((row.arrived_at for row in rows), default=not_before)
    return [parked.get(position) for position in range(1, len(arrivals) + 1)], latest


async def has_lease(session: AsyncSession, *, principal: str, idempotency_key: str) -> bool:
    return bool(await session.scalar(HAS_LEASE, {"principal": principal, "idempotency_key": idempotency_key}))


async def line_of(executor: Executor, pool: Pool, *, replica: UUID) -> Line:
    """Of one moment."""
    (row,) = await executor.execute(LINE, {**pool_parameters(pool), "replica": replica})
    free: dict[frozenset[int], int] = {}
    for numbers, users in row.free or ():
        matches = frozenset(numbers)
        free[matches] = free.get(matches, 0) + users
    return Line([Place(*place) for place in row.places or ()], free, row.due_in)


async def leave(
    session: AsyncSession, tickets: Collection[tuple[Parked, bool]], *, replica: UUID
) -> dict[int, Left]:
    """Deletes the tickets, or keeps the places of those with a key where that is said. Who is absent was not ours any more."""
    parameters = {
        "ids": [ticket.id for ticket, _ in tickets],
        "deadlines": [ticket.deadline for ticket, _ in tickets],
        "are_kept": [is_kept for _, is_kept in tickets],
        "replica": replica,
    }
    return {row.id: Left(row.place, row.waiting) for row in await session.execute(LEAVE, parameters)}


async def is_seen(session: AsyncSession, replica: UUID) -> None:
    """For 5 seconds from now on the replica's tickets count."""
    await session.execute(SEEN, {"replica": replica})


async def strays(session: AsyncSession, replica: UUID, *, known: Collection[int]) -> list[Parked]:
    """The replica's tickets that it does not know: the answer to their making or leaving was lost."""
    rows = await session.execute(STRAYS, {"replica": replica, "known": list(known)})
    return [Parked(row.id, row.deadline) for row in rows]


async def notify(session: AsyncSession, projects: Collection[UUID]) -> None:
    """Wakes those who wait for users of these projects; without any, nothing is sent."""
    await session.execute(NOTIFY, {"projects": list(projects)})


def pool_parameters(pool: Pool) -> dict[str, object]:
    return {"project_id": pool.project_id, "env": pool.env.value, "domain": pool.domain.value}
