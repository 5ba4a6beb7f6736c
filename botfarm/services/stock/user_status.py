"""Whether users may be leased, changed by hand: quarantine, restore and retire, of one user or of many."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from botfarm import metrics
from botfarm.db.access import audit_queries
from botfarm.db.postgres.engine import Database
from botfarm.db.stock import status_queries, user_reading_queries
from botfarm.db.stock.status_queries import ChangedUser
from botfarm.domain.access import Principal
from botfarm.domain.users import BY_HAND, BulkAction, User
from botfarm.errors import NoSuchUserError, UserRetiredError
from botfarm.services.shared.notifier import Notifier
from botfarm.services.stock.users import lock_as_seen


class UserStatuses:
    """`seen` is the version of the user that the caller has seen, by default any.

    With it each method raises ChangedMeanwhileError when the user has another version by now.
    """

    def __init__(self, database: Database, notifier: Notifier) -> None:
        self._database = database
        self._notifier = notifier

    async def quarantine(
        self,
        principal: Principal,
        user_id: UUID,
        *,
        reason: str,
        until: datetime | None,
        seen: str | None = None,
    ) -> User:
        """Takes the user out of service, a leased one from its release on.

        Raises NoSuchUserError, UserRetiredError.
        """
        async with self._database.transaction() as session:
            await lock_as_seen(session, principal.scope, user_id, seen)
            changed = await status_queries.quarantine(
                session, [user_id], principal.scope, by=principal.name, reason=reason, until=until
            )
            details = {"reason": reason, "until": until}
            await record_changed(session, principal, "quarantine_user", changed, details)
            user = await _existing(session, principal, user_id)
        if not changed:
            raise UserRetiredError
        count_changed(BulkAction.QUARANTINE, changed)
        return user

    async def restore(
        self,
        principal: Principal,
        user_id: UUID,
        *,
        note: str | None,
        clean: bool | None,
        seen: str | None = None,
    ) -> User:
        """Puts the user back into service: at once or, with `clean`, after a keeper.

        By default a keeper comes first where the project's policy requires one. An active user stays as it is.
        Raises NoSuchUserError, UserRetiredError.
        """
        async with self._database.transaction() as session:
            await lock_as_seen(session, principal.scope, user_id, seen)
            changed = await status_queries.restore(
                session, [user_id], principal.scope, by=principal.name, clean=clean
            )
            await record_changed(session, principal, "restore_user", changed, {"note": note, "clean": clean})
            user = await _existing(session, principal, user_id)
        if user.is_retired:
            raise UserRetiredError
        count_changed(BulkAction.RESTORE, changed)
        self._wake(changed)
        return user

    async def retire(
        self, principal: Principal, user_id: UUID, *, reason: str, seen: str | None = None
    ) -> User:
        """Takes the user out of service for good, a leased one from its release on; its history stays.

        Raises NoSuchUserError.
        """
        async with self._database.transaction() as session:
            await lock_as_seen(session, principal.scope, user_id, seen)
            changed = await status_queries.retire(
                session, [user_id], principal.scope, by=principal.name, reason=reason
            )
            await record_changed(session, principal, "retire_user", changed, {"reason": reason})
            return await _existing(session, principal, user_id)

    def _wake(self, changed: Collection[ChangedUser]) -> None:
        for project_id in {each.pool.project_id for each in changed}:
            self._notifier.freed(project_id)


async def _existing(session: AsyncSession, principal: Principal, user_id: UUID) -> User:
    user = await user_reading_queries.get_user(session, user_id, principal.scope)
    if user is None:
        raise NoSuchUserError
    return user


async def record_changed(
    session: AsyncSession,
    principal: Principal,
    action: str,
    changed: Collection[ChangedUser],
    details: Mapping[str, object],
) -> None:
    """One entry for each user."""
    for each in changed:
        await audit_queries.record(
            session,
            principal,
            action,
            target="user",
            target_id=each.id,
            project_id=each.pool.project_id,
            env=each.pool.env,
            details={name: value for name, value in details.items() if value is not None},
        )


def count_changed(action: BulkAction, changed: Collection[ChangedUser]) -> None:
    for each in changed:
        if action is BulkAction.QUARANTINE:
            metrics.quarantines_total.labels(*_labels(each), BY_HAND, "").inc()
        elif action is BulkAction.RESTORE:
            metrics.restores_total.labels(*_labels(each), BY_HAND).inc()


def _labels(changed: ChangedUser) -> tuple[str, str, str]:
    return metrics.pool_labels(changed.project_name, changed.pool.env, changed.pool.domain)
