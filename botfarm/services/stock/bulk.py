"""One change for many users: those of a filter, or those that are named."""

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby, islice
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import advisory_locks
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import bulk_queries, status_queries
from botfarm.db.stock.status_queries import ChangedUser
from botfarm.domain.access import Principal
from botfarm.domain.pools import Pool
from botfarm.domain.users import BulkAction, BulkChange, BulkFailure, BulkResult, UserFilter
from botfarm.errors import ChangedMeanwhileError, FieldError, InvalidRequestError
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.user_status import count_changed, record_changed

MAX_USERS = 10_000
BATCH = 200
"""Users of one transaction, which holds up the grants of their pool for some milliseconds."""


class Bulk:
    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier

    async def change(
        self,
        principal: Principal,
        chosen: UserFilter | Sequence[UUID],
        change: BulkChange,
        *,
        dry_run: bool,
        at_most: int | None = None,
    ) -> BulkResult:
        """Changes the users batch by batch; what cannot be done for a user is in the result.

        A dry run does the same, and takes it back. When the process dies in between, the batches before are done;
        once more does the rest.
        Raises InvalidRequestError when the filter matches too many, and ChangedMeanwhileError when it matches more
        than `at_most`, the number that the caller has seen.
        """
        async with self._database.autocommit() as session:
            users = await bulk_queries.find(session, chosen, principal.scope, limit=MAX_USERS + 1)
        if len(users) > MAX_USERS:
            message = f"matches more than {MAX_USERS:,} users: narrow it".replace(",", " ")
            raise InvalidRequestError(FieldError("filter", "invalid", message))
        if at_most is not None and len(users) > at_most:
            raise ChangedMeanwhileError
        failed = [BulkFailure(user_id, None, "no-such-user") for user_id in _missing(chosen, users)]
        done = replaced = 0
        for pool, batch in _batches(users):
            changed, failures = await self._change_batch(principal, pool, batch, change, dry_run=dry_run)
            done += len(changed)
            replaced += sum(each.is_replaced for each in changed)
            failed += failures
            if not dry_run:
                count_changed(change.action, changed)
                self._notifier.freed(pool.project_id)
        return BulkResult(matched=len(users), done=done, replaced=replaced, failed=tuple(failed))

    async def _change_batch(
        self, principal: Principal, pool: Pool, ids: Sequence[UUID], change: BulkChange, *, dry_run: bool
    ) -> tuple[list[ChangedUser], list[BulkFailure]]:
        """Under the lock of the pool: a grant that finds its users locked tries again when the lock is free."""
        async with self._database.transaction() as session:
            await advisory_locks.lock_pool(session, pool)
            changed = await _carry_out(session, principal, ids, change)
            left = set(ids) - {each.id for each in changed}
            failures = await bulk_queries.why_not(session, left, change.action, principal.scope)
            details = {"reason": change.reason, "labels": change.labels or None, "bulk": True}
            await record_changed(session, principal, change.action.operation, changed, details)
            if dry_run:
                await session.rollback()
        return changed, failures


async def _carry_out(
    session: AsyncSession, principal: Principal, ids: Collection[UUID], change: BulkChange
) -> list[ChangedUser]:
    scope, by, reason = principal.scope, principal.name, change.reason or ""
    match change.action:
        case BulkAction.QUARANTINE:
            return await status_queries.quarantine(session, ids, scope, by=by, reason=reason, until=None)
        case BulkAction.RESTORE:
            return await status_queries.restore(session, ids, scope, by=by, clean=None)
        case BulkAction.RETIRE:
            return await status_queries.retire(session, ids, scope, by=by, reason=reason)
        case BulkAction.DELETE:
            return await bulk_queries.delete(session, ids, scope)
        case BulkAction.LABEL:
            return await bulk_queries.label(session, ids, scope, labels=change.labels)


def _missing(chosen: UserFilter | Sequence[UUID], users: Collection[tuple[UUID, Pool]]) -> list[UUID]:
    """The named users that the scope does not have."""
    if isinstance(chosen, UserFilter):
        return []
    found = {user_id for user_id, _ in users}
    return [user_id for user_id in chosen if user_id not in found]


def _batches(users: Sequence[tuple[UUID, Pool]]) -> Iterator[tuple[Pool, list[UUID]]]:
    """Batches of one pool each."""
    for pool, of_pool in groupby(users, key=lambda user: user[1]):
        while batch := [user_id for user_id, _ in islice(of_pool, BATCH)]:
            yield pool, batch
