"""Engine, sessions and transactions, with a time limit for each statement."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg
from pydantic_core import from_json
from sqlalchemy import AdaptedConnection, TextClause, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from botfarm import metrics
from botfarm.db.postgres.driver import Driver, Executor
from botfarm.db.postgres.multi_host import connect
from botfarm.db.postgres.outages import (
    READ_ONLY,
    UNKNOWN_POOLER,
    Cut,
    sqlstate,
    translated_errors,
    unavailable,
)
from botfarm.errors import ConnectionsBusyError, UnknownPoolerError

Connection = TypeVar("Connection")

# Seconds for a connection, then for a statement. A request is answered within three seconds, if only with 503
# (decision 0010).
CHECK_OUT_PATIENCE = 1.0
REQUEST_PATIENCE = 1.5
BACKGROUND_PATIENCE = 30.0
# Seconds after which the connection is cut. The server's own limit comes first: it rolls the statement back
# and keeps the connection.
GRACE = 0.3

# PgBouncer may be configured to ignore the settings of a session, so one that no server has by default is
# checked. A DO block is not prepared; a prepared statement would fail first.
_REQUIRE_SETTINGS = """
    DO $$ BEGIN
        ASSERT current_setting('enable_bitmapscan') = 'off', 'the settings of this session were not kept';
    END $$"""


def create_engine(
    url: str,
    *,
    application_name: str,
    pool_size: int = 5,
    patience: float | None = REQUEST_PATIENCE,
    through_pooler: bool = False,
) -> AsyncEngine:
    """An engine for a `postgresql://` URL.

    It opens at most `pool_size` connections. A statement may take `patience` seconds, or any time for None.

    Through a pooler each transaction may run in another session. So no settings are made for the session
    (`Database` makes them for each transaction), and only the unnamed prepared statement is used.
    """
    settings = {"application_name": application_name}
    if not through_pooler:
        settings |= _session_settings(patience)

    async def open_connection(**_: object) -> asyncpg.Connection:
        # asyncpg reads the URL as PostgreSQL's own clients do: sslmode, target_session_attrs.
        if through_pooler:
            return await connect(url, server_settings=settings, statement_cache_size=0)
        connection = await connect(url, server_settings=settings)
        try:
            await connection.execute(_REQUIRE_SETTINGS)
        except BaseException:
            connection.terminate()
            raise
        return connection

    nameless = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    engine = create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": open_connection, **(nameless if through_pooler else {})},
        pool_size=pool_size,
        max_overflow=0,
        json_deserializer=from_json,  # a sixth of the time that Python's own takes, three values for each lease
        hide_parameters=True,  # error messages must not show the values of a statement
        pool_timeout=CHECK_OUT_PATIENCE - GRACE,
        # No pre-ping, because that is a round trip for each request. `_refuse_closed` looks without one.
        pool_recycle=1_800,
        pool_use_lifo=True,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _refuse_closed(connection: AdaptedConnection, _record: object, _pooled: object) -> None:
    """The pool opens another one in its place, so a restart of the server fails no request that comes after it."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def _session_settings(patience: float | None) -> dict[str, str]:
    return {
        "statement_timeout": str(int((patience or 0) * 1000)),
        "idle_in_transaction_session_timeout": "10000",
        "default_transaction_isolation": "read committed",  # which the lease statements are written for
        "jit": "off",
        # The users fit into memory. With these two settings the planner walks the index to find the users of
        # an acquire, also in its generic plan, which does not know how many users are wanted.
        "random_page_cost": "1.1",
        "enable_bitmapscan": "off",
    }


class Database:
    def __init__(
        self, engine: AsyncEngine, *, patience: float = REQUEST_PATIENCE, through_pooler: bool = False
    ) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._patience = patience
        self._through_pooler = through_pooler
        self._has_met_pooler = False

    def require_own_sessions(self) -> None:
        """Raises UnknownPoolerError once a pooler was found that the settings do not name.

        No statement is sent from then on, because a prepared statement could be another process's of the same
        name.
        """
        if self._has_met_pooler:
            raise UnknownPoolerError(UNKNOWN_POOLER)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncSession]:
        """Each statement is a transaction of its own, without round trips for BEGIN and COMMIT.

        Through a pooler the block is one transaction, because only then a statement is prepared and executed
        in the same session.
        """
        if self._through_pooler:
            async with self.transaction() as session:
                yield session
            return
        async with self._session(self._autocommit, self._patience) as session:
            yield session

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[Executor]:
        """As `autocommit`, without an SQLAlchemy session: for the most frequent statements, see driver.py."""
        if self._through_pooler:
            async with self.transaction() as session:
                yield session
            return
        async with self._translated_errors() as cut:
            # A connection of the pool itself: `engine.connect()` would wrap it once more, and take twice as long.
            pooled = await _check_out(self._engine.raw_connection())
            driver: asyncpg.Connection = pooled.driver_connection
            cutting = asyncio.get_running_loop().call_later(self._patience + GRACE, cut, driver)
            try:
                yield Driver(driver)
            except BaseException as error:
                if (
                    driver.is_closed()
                    or not isinstance(error, Exception)
                    or isinstance(error, asyncpg.InternalClientError)
                    or sqlstate(error) == READ_ONLY
                ):
                    pooled.invalidate()
                if driver.is_closed() and isinstance(error, asyncpg.InterfaceError):
                    raise unavailable(error) from error
                raise
            finally:
                cutting.cancel()
                pooled.close()

    @asynccontextmanager
    async def transaction(self, *, patience: float | None = None) -> AsyncIterator[AsyncSession]:
        """A READ COMMITTED transaction, committed at the end of the block, rolled back by an exception."""
        async with self._session(self._engine, patience or self._patience) as session:
            if self._through_pooler:
                await session.execute(_settings_of_transaction(patience or self._patience))
            yield session
            await session.commit()

    @asynccontextmanager
    async def long_reading(self, *, patience: float) -> AsyncIterator[AsyncSession]:
        """A transaction for long reads: the whole block may take `patience` seconds."""
        async with self.transaction(patience=patience) as session:
            await session.execute(text(f"SET LOCAL statement_timeout = {int(patience * 1000)}"))
            yield session

    async def dispose(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine, patience: float) -> AsyncIterator[AsyncSession]:
        """A session on one connection, which is cut `GRACE` seconds after `patience`.

        Raises DatabaseUnavailableError.
        """
        async with self._translated_errors() as cut, AsyncSession(engine, expire_on_commit=False) as session:
            driver = await _driver_of(await _check_out(session.connection()))
            cutting = asyncio.get_running_loop().call_later(patience + GRACE, cut, driver)
            try:
                yield session
            except DBAPIError as error:
                if sqlstate(error.orig) == READ_ONLY:
                    await session.invalidate()  # the connection would stay on a server that is a standby now
                raise
            finally:
                cutting.cancel()

    @asynccontextmanager
    async def _translated_errors(self) -> AsyncIterator[Cut]:
        self.require_own_sessions()
        try:
            async with translated_errors() as cut:
                yield cut
        except UnknownPoolerError:
            self._has_met_pooler = not self._through_pooler
            raise


def _settings_of_transaction(patience: float) -> TextClause:
    """Sets what a session would have, but for the isolation, which is the server's default."""
    settings = _session_settings(patience)
    del settings["default_transaction_isolation"]  # it would come too late for this transaction
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return text(f"SELECT {', '.join(calls)}")


async def _check_out(opening: Awaitable[Connection]) -> Connection:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_OUT_PATIENCE):
            return await opening
    except PoolTimeoutError as error:
        metrics.db_pool_timeouts_total.inc()
        raise ConnectionsBusyError("all connections of this process are in use") from error
    except Exception as error:  # whatever the reason is, there is no connection
        raise unavailable(error) from error
    finally:
        metrics.db_pool_wait_seconds.observe(time.perf_counter() - started)


async def _driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    return (await connection.get_raw_connection()).driver_connection
