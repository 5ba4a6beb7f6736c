"""Tickets: the places of waiting requests in a queue of a pool, one queue for all replicas.

Each pool has a queue of tests and a queue of keepers.

A ticket is live until its deadline, while its replica has a heartbeat. Only its own replica grants it, by a statement
of db/leasing/pool_grant_statements.py that also deletes it. So exactly one of a grant, a time-out and a disconnect
deletes the ticket, and that one decides.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.postgres.listener import SAY_FREED
from botfarm.db.shared.user_state import CLOCK
from botfarm.db.shared.wanted_users import label_parameters
from botfarm.db.waiting.live_tickets import LIVE_TICKET
from botfarm.domain.leases import LeaseRequest, LeaseTerms
from botfarm.domain.waiting import PRIORITY_STEP

# Seconds that the place of a request that left without users is kept for a retry under its key.
KEPT_FOR = 10.0
# Seconds after its deadline that a ticket is pruned. Its own process would have withdrawn it by then.
PRUNED_AFTER = 60.0

# The newest request under a key owns the ticket, at the place of the first request while that place is kept.
# A ticket is ranked by the arrival of its request, not by its insertion. It never ranks before tickets that
# the same process inserted earlier. Rows are inserted in the order of their keys, so that two statements
# never wait for each other.
INSERT = text(f"""
    WITH new AS MATERIALIZED (
        SELECT nextval(pg_get_serial_sequence('tickets', 'id')) AS id, w.*,
               least(c.now, greatest(c.now - make_interval(secs => w.since),
                                     CAST(:not_before AS timestamptz))) AS arrived_at,
               c.now + make_interval(secs => w.seconds) AS deadline
        FROM unnest(CAST(:project_ids AS uuid[]), CAST(:envs AS text[]), CAST(:domains AS text[]),
                    CAST(:labels AS text[]), CAST(:choices AS text[]), CAST(:user_ids AS uuid[]),
                    CAST(:counts AS integer[]), CAST(:priorities AS integer[]),
                    CAST(:since AS float8[]), CAST(:seconds AS float8[]), CAST(:principals AS text[]),
                    CAST(:owners AS text[]), CAST(:idempotency_keys AS text[]),
                    CAST(:fingerprints AS bytea[]), CAST(:purposes AS text[])) WITH ORDINALITY
             AS w (project_id, env, domain, labels, choices, user_id, count, priority, since, seconds, principal, owner,
                   idempotency_key, fingerprint, purpose, position), {CLOCK}
    ),
    parked AS (
        INSERT INTO tickets AS t (id, project_id, env, domain, labels, choices, user_id, count, priority,
                                  rank, arrived_at, replica, deadline, principal, owner, idempotency_key,
                                  fingerprint, purpose)
        OVERRIDING SYSTEM VALUE
        SELECT id, project_id, env, domain, CAST(labels AS jsonb), CAST(choices AS jsonb), user_id, count, priority,
               arrived_at - priority * interval '{PRIORITY_STEP} seconds', arrived_at,
               :replica, deadline, principal, owner, idempotency_key, fingerprint, purpose
        FROM new ORDER BY principal, idempotency_key, id
        ON CONFLICT (principal, idempotency_key) WHERE idempotency_key IS NOT NULL DO UPDATE
        SET project_id = excluded.project_id, env = excluded.env, domain = excluded.domain,
            labels = excluded.labels, choices = excluded.choices, user_id = excluded.user_id,
            count = excluded.count, priority = excluded.priority,
            owner = excluded.owner, fingerprint = excluded.fingerprint, replica = excluded.replica,
            deadline = excluded.deadline, purpose = excluded.purpose,
            rank = CASE WHEN t.deadline > clock_timestamp() THEN t.rank ELSE excluded.rank END,
            arrived_at = CASE WHEN t.deadline > clock_timestamp() THEN t.arrived_at
                              ELSE excluded.arrived_at END
        WHERE t.fingerprint = excluded.fingerprint OR t.deadline <= clock_timestamp()
        RETURNING id, deadline, principal, idempotency_key, arrived_at
    )
    SELECT new.position, new.arrived_at, parked.id, parked.deadline,
           extract(epoch FROM clock_timestamp() - parked.arrived_at)::float8 AS waited
    FROM parked JOIN new
         ON parked.id = new.id
         OR (parked.principal = new.principal AND parked.idempotency_key = new.idempotency_key)""")

HAS_LEASE = text("""
    SELECT EXISTS (SELECT FROM leases WHERE principal = :principal AND idempotency_key = :idempotency_key)""")


# The deadline distinguishes a ticket from the same ticket after a retry took it over, which must stay.
WITHDRAW = text(f"""
    WITH mine AS MATERIALIZED (
        SELECT t.id, t.project_id, t.env, t.domain, t.purpose,
               leaving.is_kept AND t.idempotency_key IS NOT NULL AS is_kept
        FROM tickets AS t
        JOIN unnest(CAST(:ids AS bigint[]), CAST(:deadlines AS timestamptz[]), CAST(:are_kept AS boolean[]))
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
        SELECT t.id,
               row_number() OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose
                                  ORDER BY t.rank, t.id) AS place,
               count(*) OVER (PARTITION BY t.project_id, t.env, t.domain, t.purpose) AS waiting
        FROM tickets AS t LEFT JOIN replicas AS r ON r.id = t.replica
        WHERE (t.project_id, t.env, t.domain, t.purpose) IN (SELECT project_id, env, domain, purpose FROM mine)
          AND (({LIVE_TICKET}) OR t.id IN (SELECT id FROM mine))
    )
    SELECT line.id, line.place, line.waiting FROM line JOIN mine ON mine.id = line.id""")

# The place is kept, as it is when a caller hangs up.
END_WAIT = text(f"""
    UPDATE tickets SET replica = NULL, deadline = clock_timestamp() + make_interval(secs => {KEPT_FOR})
    WHERE principal = :principal AND idempotency_key = :idempotency_key AND fingerprint = :fingerprint
      AND replica IS NOT NULL""")

HEARTBEAT = text("""
    INSERT INTO replicas (id, seen_at) VALUES (:replica, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()""")

STRAYS = text("""
    SELECT id, deadline FROM tickets WHERE replica = :replica AND id <> ALL (CAST(:known AS bigint[]))""")

PRUNE_TICKETS = text(f"""
    DELETE FROM tickets WHERE deadline < clock_timestamp() - make_interval(secs => {PRUNED_AFTER})
    RETURNING id""")

PRUNE_REPLICAS = text("""
    DELETE FROM replicas WHERE seen_at < clock_timestamp() - interval '1 day'
    RETURNING id""")

NOTIFY = text(SAY_FREED.format(freed="unnest(CAST(:projects AS uuid[]))"))


@dataclass(frozen=True, slots=True)
class NewTicket:
    request: LeaseRequest
    since: float
    """Seconds since the request was received."""
    seconds: float
    """How long the request still waits."""


@dataclass(frozen=True, slots=True)
class HeldTicket:
    """A ticket as its own process knows it."""

    id: int
    deadline: datetime
    waited: float = 0
    """Seconds from the first request under its key to its insertion."""


@dataclass(frozen=True, slots=True)
class LastPlace:
    """Where a ticket stood in its queue when it was withdrawn."""

    place: int
    waiting: int
    """The tickets in the queue, this one included."""


async def insert_tickets(
    session: AsyncSession, tickets: Sequence[NewTicket], *, replica: UUID, not_before: datetime | None
) -> tuple[list[HeldTicket | None], datetime | None]:
    """Inserts the tickets, or takes over those of the same keys. Returns them, and the latest arrival.

    No key may be there twice. None for a request whose key has a ticket of another request. `not_before` is
    the latest arrival that an earlier call returned: no new ticket ranks before it.
    """
    requests = [each.request for each in tickets]
    terms = [each.terms for each in requests]
    labels = [label_parameters(each.labels) for each in requests]
    parameters = {
        "replica": replica,
        "not_before": not_before,
        "project_ids": [each.pool.project_id for each in requests],
        "envs": [each.pool.env for each in requests],
        "domains": [each.pool.domain for each in requests],
        "labels": [each["labels"] for each in labels],
        "choices": [each["choices"] for each in labels],
        "user_ids": [each.user_id for each in requests],
        "counts": [each.count for each in requests],
        "priorities": [each.priority for each in requests],
        "since": [each.since for each in tickets],
        "seconds": [each.seconds for each in tickets],
        "principals": [each.principal.name for each in requests],
        "owners": [each.owner for each in terms],
        "idempotency_keys": [each.idempotency_key for each in terms],
        "fingerprints": [each.fingerprint for each in terms],
        "purposes": [each.purpose.value for each in requests],
    }
    rows = (await session.execute(INSERT, parameters)).all()
    inserted = {row.position: HeldTicket(row.id, row.deadline, row.waited) for row in rows}
    latest = max((row.arrived_at for row in rows), default=not_before)
    return [inserted.get(position) for position in range(1, len(tickets) + 1)], latest


async def has_lease(session: AsyncSession, *, principal: str, idempotency_key: str) -> bool:
    return bool(await session.scalar(HAS_LEASE, {"principal": principal, "idempotency_key": idempotency_key}))


async def withdraw_tickets(
    session: AsyncSession, tickets: Collection[tuple[HeldTicket, bool]], *, replica: UUID
) -> dict[int, LastPlace]:
    """Deletes the tickets.

    Where the second of a pair is True and the ticket has a key, its place is kept for a retry. Returns the
    last places by the ids of the tickets. Absent are tickets that were not this replica's any more.
    """
    parameters = {
        "ids": [ticket.id for ticket, _ in tickets],
        "deadlines": [ticket.deadline for ticket, _ in tickets],
        "are_kept": [is_kept for _, is_kept in tickets],
        "replica": replica,
    }
    rows = await session.execute(WITHDRAW, parameters)
    return {row.id: LastPlace(row.place, row.waiting) for row in rows}


async def end_wait(session: AsyncSession, *, principal: str, terms: LeaseTerms) -> None:
    """Ends the wait of the same request under the same key, at whichever replica: its ticket is not granted.

    Waits for a grant of the ticket that is in flight.
    """
    parameters = {"idempotency_key": terms.idempotency_key, "fingerprint": terms.fingerprint}
    await session.execute(END_WAIT, {"principal": principal, **parameters})


async def record_heartbeat(session: AsyncSession, replica: UUID) -> None:
    """Makes the replica's tickets count for the next 5 seconds."""
    await session.execute(HEARTBEAT, {"replica": replica})


async def strays(session: AsyncSession, replica: UUID, *, known: Collection[int]) -> list[HeldTicket]:
    """The tickets of the replica that are not `known` to it, because the answer to a statement was lost."""
    rows = await session.execute(STRAYS, {"replica": replica, "known": list(known)})
    return [HeldTicket(row.id, row.deadline) for row in rows]


async def prune_tickets(session: AsyncSession) -> int:
    """Deletes the tickets whose request ended long ago. Returns how many."""
    return len((await session.execute(PRUNE_TICKETS)).all())


async def prune_replicas(session: AsyncSession) -> int:
    """Deletes the replicas without a heartbeat for a day. Returns how many."""
    return len((await session.execute(PRUNE_REPLICAS)).all())


async def notify(session: AsyncSession, projects: Collection[UUID]) -> None:
    """Wakes the requests that wait for users of these projects.

    Sends nothing for a project in which none waits.
    """
    await session.execute(NOTIFY, {"projects": list(projects)})
