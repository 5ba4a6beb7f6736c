"""Leasing as it is usually written: a session for each request, read a free user, then update it.

For comparison only. It may give one user to several callers, checks no token, keeps no history, and protects
no password.
"""

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException, Response
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from botfarm.db.shared.tables import ProjectRow, UserRow

engine = create_async_engine(
    os.environ["PLAIN_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


def repeat_request_id(response: Response, x_request_id: Annotated[str, Header()]) -> None:
    """The load generator matches answers to requests by this header."""
    response.headers["X-Request-ID"] = x_request_id


app = FastAPI(dependencies=[Depends(repeat_request_id)])
Session = Annotated[AsyncSession, Depends(get_session)]


class Wanted(BaseModel):
    project: str
    env: str
    count: int


class Leased(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    login: str
    password: str
    locktime: datetime | None
    expires_at: datetime | None


@app.post("/api/v1/leases", status_code=201)
async def acquire(wanted: Wanted, session: Session) -> Leased:
    project = await session.scalar(select(ProjectRow).where(ProjectRow.name == wanted.project))
    if project is None:
        raise HTTPException(404, "no such project")
    free = (
        select(UserRow)
        .where(UserRow.project_id == project.id, UserRow.env == wanted.env, UserRow.locktime.is_(None))
        .limit(1)
    )
    user = await session.scalar(free)
    if user is None:
        raise HTTPException(409, "no user is free")
    user.locktime = datetime.now(UTC)
    user.expires_at = user.locktime + timedelta(minutes=15)
    await session.commit()
    await session.refresh(user)
    return Leased.model_validate(user)


@app.post("/api/v1/leases/{user_id}/release")
async def release(user_id: UUID, session: Session) -> Leased:
    user = await session.get(UserRow, user_id)
    if user is None:
        raise HTTPException(404, "no such user")
    user.locktime = user.expires_at = None
    await session.commit()
    await session.refresh(user)
    return Leased.model_validate(user)
