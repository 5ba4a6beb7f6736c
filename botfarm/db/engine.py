"""The way to PostgreSQL: one engine for each process, and the one place where a driver's error becomes ours."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from botfarm import metrics
from botfarm.errors import DatabaseUnavailableError

CONNECT_TIMEOUT = 2.0
POOL_TIMEOUT = 2.0
STATEMENT_TIMEOUT_MS = 10_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000

# Classes of SQLSTATE that say nothing about the statement, only that this server cannot serve it now: connection lost,
# rolled back by a conflict, out of resources, stopped by an operator or a timeout, failing itself.
_UNAVAILABLE_CLASSES = ("08", "40", "53", "57", "58", "XX")
_READ_ONLY = "25006"  # a standby, after a failover
_NO_SUCH_DATABASE = "3D000"
_LOCK_TIMEOUT = "55P03"


def create_engine(
    url: str, *, application_name: str, pool_size: int = 5, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> AsyncEngine:
    """An engine for a `postgresql://` URL. The pool never grows past `pool_size` connections."""
    return create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # an error message is no place for what a statement carried
        pool_timeout=POOL_TIMEOUT,
        # Not pre-pinged: that is a round trip for each request, and a dead connection is noticed by its statement.
        pool_recycle=1_800,
        pool_use_lifo=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {
                "application_name": application_name,
                "statement_timeout": str(statement_timeout_ms),
                "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
                "jit": "off",
                # The users are few enough to be in memory. With these two the planner finds the users of an acquire by
                # walking the index, in its generic plan too, where it does not know that the LIMIT is small.
                "random_page_cost": "1.1",
                "enable_bitmapscan": "off",
            },
        },
    )


class Database:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncSession]:
        """Each statement is a transaction of its own, committed when it returns: no round trips for BEGIN, COMMIT."""
        async with translated_errors(), AsyncSession(self._autocommit) as session:
            await _check_out(session)
            yield session

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A READ COMMITTED transaction, committed at the end of the block, rolled back by an exception."""
        async with translated_errors(), AsyncSession(self._engine) as session, session.begin():
            await _check_out(session)
            yield session

    async def dispose(self) -> None:
        await self._engine.dispose()


async def _check_out(session: AsyncSession) -> None:
    started = time.perf_counter()
    _ = await session.connection()
    metrics.db_pool_wait_seconds.observe(time.perf_counter() - started)


@asynccontextmanager
async def translated_errors() -> AsyncIterator[None]:
    """Raises DatabaseUnavailableError for what is no fault of the statement; lets everything else through."""
    try:
        yield
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error, InterfaceError) or _is_unavailable(error.orig):
            raise DatabaseUnavailableError from error
        raise
    except (OSError, TimeoutError, PoolTimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        # While it connects, the driver's own errors come through unwrapped.
        raise DatabaseUnavailableError from error


def _is_unavailable(error: BaseException | None) -> bool:
    sqlstate = getattr(error, "sqlstate", None) or ""
    return sqlstate.startswith(_UNAVAILABLE_CLASSES) or sqlstate in {
        _READ_ONLY,
        _NO_SUCH_DATABASE,
        _LOCK_TIMEOUT,
    }
