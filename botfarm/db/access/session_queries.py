"""Sessions of operators.

A session is live until it ends or expires (by the database's clock), or its operator is disabled.
"""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Float,
    Select,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.access.operator_queries import operator_of
from botfarm.db.shared.tables import OperatorRow, SessionRow
from botfarm.domain.access import Operator, Session

_CLOCK = func.clock_timestamp()
_KEPT_FOR = timedelta(days=1)


async def insert_session(session: AsyncSession, operator: Operator, *, longest: timedelta) -> Session:
    """Inserts a session of `longest`. Deletes the operator's sessions that expired more than a day ago."""
    await session.execute(
        delete(SessionRow).where(
            SessionRow.operator_id == operator.id, SessionRow.expires_at < _CLOCK - _KEPT_FOR
        )
    )
    statement = (
        insert(SessionRow)
        .values(id=uuid4(), operator_id=operator.id, expires_at=_CLOCK + longest)
        .returning(SessionRow.id, SessionRow.expires_at)
    )
    row = (await session.execute(statement)).one()
    return Session(row.id, operator, row.expires_at, longest.total_seconds())


async def live_sessions(session: AsyncSession, ids: Collection[UUID]) -> Mapping[UUID, Session]:
    """Returns the live sessions by their ids."""
    any_of_them = SessionRow.id == func.any(bindparam("ids", list(ids), ARRAY(Uuid())))
    rows = await session.execute(_live().where(any_of_them))
    return {
        row.SessionRow.id: Session(
            row.SessionRow.id, operator_of(row.OperatorRow), row.SessionRow.expires_at, row.seconds_left
        )
        for row in rows
    }


async def is_signed_in(session: AsyncSession, operator_id: UUID) -> bool:
    """Whether the operator has a live session."""
    statement = select(SessionRow.id).where(SessionRow.operator_id == operator_id, *_NOT_OVER).limit(1)
    return await session.scalar(statement) is not None


async def end_session(session: AsyncSession, session_id: UUID) -> bool:
    """Ends the session. False when it had ended already."""
    statement = (
        update(SessionRow)
        .where(SessionRow.id == session_id, *_NOT_OVER)
        .values(ended_at=_CLOCK)
        .returning(SessionRow.id)
    )
    return await session.scalar(statement) is not None


async def end_sessions_of(session: AsyncSession, operator_id: UUID) -> int:
    """Ends the operator's live sessions and returns their number."""
    statement = (
        update(SessionRow)
        .where(SessionRow.operator_id == operator_id, *_NOT_OVER)
        .values(ended_at=_CLOCK)
        .returning(SessionRow.id)
    )
    return len((await session.scalars(statement)).all())


_NOT_OVER: tuple[ColumnElement[bool], ...] = (SessionRow.ended_at.is_(None), SessionRow.expires_at > _CLOCK)


def _live() -> Select[Any]:
    seconds_left = cast(func.extract("epoch", SessionRow.expires_at - _CLOCK), Float).label("seconds_left")
    return (
        select(SessionRow, OperatorRow, seconds_left)
        .join(OperatorRow, OperatorRow.id == SessionRow.operator_id)
        .where(*_NOT_OVER, OperatorRow.disabled_at.is_(None))
    )
