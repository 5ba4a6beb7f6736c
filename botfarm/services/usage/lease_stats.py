"""How users were used, and who used them, since some moment: from the leases that are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.postgres.engine import Database
from botfarm.db.usage import lease_stats_queries
from botfarm.db.usage.lease_stats_queries import FoundUser, StatusEvent
from botfarm.domain.access import Scope
from botfarm.domain.usage import HolderKind, HolderUse, PoolStatsFilter, UserOrder, UserUse
from botfarm.domain.users import UserStatus
from botfarm.errors import FieldError, InvalidRequestError
from botfarm.services.shared.turns import Turns

USUAL = timedelta(days=14)
"""How far back, when nothing is asked for."""
MAX_LEASES = 2_000_000
"""Leases that are read for one answer; they take some seconds."""
PATIENCE = 10.0
MAX_ASKING = 8
"""Requests of one process that read, or wait for their turn."""
AT_ONCE = 2
"""Few readings at a time, because each holds a connection for up to `PATIENCE` seconds."""


class LeaseStats:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = Turns(AT_ONCE, asking=MAX_ASKING, busy="Others wait for statistics at this replica.")

    async def users(
        self,
        scope: Scope,
        chosen: PoolStatsFilter,
        *,
        since: datetime | None,
        order: UserOrder,
        limit: int,
    ) -> list[UserUse]:
        """The first users of the scope by this order, as tests used them in leases that began since then.

        Raises InvalidRequestError for a time that is not in the past, and for more than two million leases of the
        scope, and SlowDownError when others wait already.
        """
        async with self._turns.one(), self._database.long_reading(patience=PATIENCE) as session:
            reading = await _begin(session, scope, since)
            found = await lease_stats_queries.list_users(
                session,
                scope,
                chosen,
                since=reading.since,
                first_fence=reading.first_fence,
                order=order,
                limit=limit,
            )
            events = await lease_stats_queries.quarantines(session, [each.id for each in found])
        return [_use(each, events.get(each.id, []), reading) for each in found]

    async def holders(
        self, scope: Scope, *, kind: HolderKind, project_id: UUID | None, since: datetime | None, limit: int
    ) -> Sequence[HolderUse]:
        """Those who held users of the scope for longest, in leases that began since then; not keepers.

        Raises InvalidRequestError as `users` does.
        """
        async with self._turns.one(), self._database.long_reading(patience=PATIENCE) as session:
            reading = await _begin(session, scope, since)
            return await lease_stats_queries.list_holders(
                session,
                scope,
                kind=kind,
                project_id=project_id,
                since=reading.since,
                first_fence=reading.first_fence,
                limit=limit,
            )


@dataclass(frozen=True, slots=True)
class _Reading:
    since: datetime
    now: datetime
    first_fence: int


async def _begin(session: AsyncSession, scope: Scope, since: datetime | None) -> _Reading:
    now = await lease_stats_queries.clock(session)
    begin = since or now - USUAL
    if begin >= now:
        raise InvalidRequestError(FieldError("since", "invalid", "must be in the past"))
    start = await lease_stats_queries.start(session, scope, begin)
    if start.leases > MAX_LEASES:
        message = f"must be later, because there were more than {MAX_LEASES} leases since then"
        raise InvalidRequestError(FieldError("since", "too_long", message))
    return _Reading(begin, now, start.first_fence)


def _use(found: FoundUser, events: Sequence[StatusEvent], reading: _Reading) -> UserUse:
    quarantined = quarantined_for(_with_status(found, events), reading.since, reading.now)
    return UserUse(
        id=found.id,
        login=found.login,
        pool=found.pool,
        uses=found.uses,
        failures=found.failures,
        last_reason=found.last_reason,
        busy_seconds=found.busy_seconds,
        last_used=found.last_used,
        quarantined_seconds=quarantined.total_seconds(),
    )


def _with_status(found: FoundUser, events: Sequence[StatusEvent]) -> Sequence[StatusEvent]:
    """The events, or the quarantine that the user is in when the audit has pruned its beginning."""
    if events or found.status != UserStatus.QUARANTINED or found.status_since is None:
        return events
    return [StatusEvent(found.status_since, "quarantine_user", found.status_until)]


def quarantined_for(events: Sequence[StatusEvent], since: datetime, now: datetime) -> timedelta:
    """For how much of the time from `since` to `now` the user was quarantined, by events in their order."""
    spent, began, until = timedelta(), None, now
    for event in [*events, StatusEvent(now, "now")]:
        if began is not None:
            spent += max(timedelta(), min(event.at, until, now) - max(began, since))
        is_in = event.action == "quarantine_user"
        began, until = (event.at, event.until or now) if is_in else (None, now)
    return spent
