"""The way to PostgreSQL: one engine for each process, and the one place where a driver's error becomes ours."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from botfarm import metrics
from botfarm.db.postgres.driver import Driver, Executor
from botfarm.db.postgres.multi_host import connect
from botfarm.errors import BotfarmError, ConnectionsBusyError, DatabaseUnavailableError, UnknownPoolerError
from botfarm.logs import get_logger

logger = get_logger(__name__)

# Seconds. A request is answered within three, with 503 at the worst: so long for a connection, then for a statement.
CHECK_OUT_PATIENCE = 1.0
REQUEST_PATIENCE = 1.5
BACKGROUND_PATIENCE = 30.0
# Then we end the connection. The server's own limit comes first: it undoes the statement and keeps the connection.
GRACE = 0.3
WARNING_INTERVAL = 10.0
_last_warning: dict[str, float] = {}

# SQLSTATEs, or the classes they begin with, that say nothing about the request, only that this server cannot serve it
# now: connection lost, rolled back by a conflict, out of resources, stopped by an operator or a timeout, failing itself,
# a standby after a failover, waited too long for a lock, and a schema or grants that are not those of this build.
_UNAVAILABLE = ("08", "28", "40", "53", "57", "58", "XX", "25006", "55P03", "42P01", "42703", "42501")
_READ_ONLY = "25006"

# PgBouncer may be told to ignore the settings of a session. This is one that no server has by itself. A DO block is sent
# without being prepared, which is what would fail first.
_REQUIRE_SETTINGS = """
    DO $$ BEGIN
        ASSERT current_setting('enable_bitmapscan') = 'off', 'the settings of this session were not kept';
    END $$"""
# That assertion; a prepared statement that does not exist; one that exists already.
_OF_A_POOLER = ("P0004", "26000", "42P05")
_REFUSED_BY_PGBOUNCER = "unsupported startup parameter"
UNKNOWN_POOLER = "between it and this process is a pooler that shares sessions, such as PgBouncer: set BOTFARM_DB_POOLER=transaction; BOTFARM_OWNER_URL must go past it"


def create_engine(
    url: str,
    *,
    application_name: str,
    pool_size: int = 5,
    patience: float | None = REQUEST_PATIENCE,
    through_pooler: bool = False,
) -> AsyncEngine:
    """An engine for a `postgresql://` URL. The pool never grows past `pool_size`; a statement has `patience` seconds.

    Through a pooler each transaction may be on another session, so that nothing of ours may stay on one: no setting
    (`Database` makes them for each transaction) and no prepared statement but the nameless one.
    """
    settings = {"application_name": application_name}
    if not through_pooler:
        settings |= _session_settings(patience)

    async def open_connection(**_: object) -> asyncpg.Connection:
        # The driver reads the URL as PostgreSQL's own clients do: sslmode, target_session_attrs.
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
    return create_async_engine(
        "postgresql+asyncpg://",
        connect_args={"async_creator_fn": open_connection, **(nameless if through_pooler else {})},
        pool_size=pool_size,
        max_overflow=0,
        hide_parameters=True,  # an error message is no place for what a statement carried
        pool_timeout=CHECK_OUT_PATIENCE - GRACE,
        # Not pre-pinged: that is a round trip for each request, and a dead connection is noticed by its statement.
        pool_recycle=1_800,
        pool_use_lifo=True,
    )


def _session_settings(patience: float | None) -> dict[str, str]:
    return {
        "statement_timeout": str(int((patience or 0) * 1000)),
        "idle_in_transaction_session_timeout": "10000",
        "default_transaction_isolation": "read committed",  # which the lease statements are written for
        "jit": "off",
        # The users are few enough to be in memory. With these two the planner finds the users of an acquire by walking
        # the index, in its generic plan too, where it does not know that the LIMIT is small.
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
        """Raises UnknownPoolerError once a pooler was met that the settings do not name.

        From then on nothing is asked any more: a prepared statement could be another process's statement of that name.
        """
        if self._has_met_pooler:
            raise UnknownPoolerError(UNKNOWN_POOLER)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncSession]:
        """Each statement is a transaction of its own, committed when it returns: no round trips for BEGIN, COMMIT.

        Through a pooler they are one transaction: a statement is prepared and executed on the same session only in one.
        """
        if self._through_pooler:
            async with self.transaction() as session:
                yield session
            return
        async with self._session(self._autocommit, self._patience) as session:
            yield session

    @asynccontextmanager
    async def direct(self) -> AsyncIterator[Executor]:
        """As `autocommit`, for the statements that every lease needs: without SQLAlchemy's layers, see driver.py."""
        if self._through_pooler:
            async with self.transaction() as session:
                yield session
            return
        async with self._translated_errors() as cut:
            connection = await _check_out(self._engine.connect().start())
            driver = await _driver_of(connection)
            cutting = asyncio.get_running_loop().call_later(self._patience + GRACE, cut, driver)
            try:
                yield Driver(driver)
            except BaseException as error:
                if (
                    driver.is_closed()
                    or not isinstance(error, Exception)
                    or isinstance(error, asyncpg.InternalClientError)
                    or _sqlstate(error) == _READ_ONLY
                ):
                    await connection.invalidate()
                if driver.is_closed() and isinstance(error, asyncpg.InterfaceError):
                    raise unavailable(error) from error
                raise
            finally:
                cutting.cancel()
                await connection.close()

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
        """For what may have to look at very many rows: all statements of the block together have so many seconds."""
        async with self.transaction(patience=patience) as session:
            await session.execute(text(f"SET LOCAL statement_timeout = {int(patience * 1000)}"))
            yield session

    async def dispose(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _session(self, engine: AsyncEngine, patience: float) -> AsyncIterator[AsyncSession]:
        """A session on one connection, for so many seconds at most. Raises DatabaseUnavailableError."""
        async with self._translated_errors() as cut, AsyncSession(engine, expire_on_commit=False) as session:
            driver = await _driver_of(await _check_out(session.connection()))
            cutting = asyncio.get_running_loop().call_later(patience + GRACE, cut, driver)
            try:
                yield session
            except DBAPIError as error:
                if _sqlstate(error.orig) == _READ_ONLY:
                    await session.invalidate()  # it would stay connected to what is a standby now
                raise
            finally:
                cutting.cancel()

    @asynccontextmanager
    async def _translated_errors(self) -> AsyncIterator["_Cut"]:
        self.require_own_sessions()
        try:
            async with _translated_errors() as cut:
                yield cut
        except UnknownPoolerError:
            self._has_met_pooler = not self._through_pooler
            raise


def _settings_of_transaction(patience: float) -> TextClause:
    """Its isolation is that of the server, whose default it is."""
    settings = _session_settings(patience)
    del settings["default_transaction_isolation"]  # comes too late for the transaction that it is set in
    calls = (f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    return text(f"SELECT {', '.join(calls)}")


async def _check_out(opening: Awaitable[AsyncConnection]) -> AsyncConnection:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(CHECK_OUT_PATIENCE):
            return await opening
    except PoolTimeoutError as error:
        metrics.db_pool_timeouts_total.inc()
        raise ConnectionsBusyError("all connections of this process are in use") from error
    except Exception as error:  # whatever it is, there is no connection
        raise unavailable(error) from error
    finally:
        metrics.db_pool_wait_seconds.observe(time.perf_counter() - started)


async def _driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    return (await connection.get_raw_connection()).driver_connection


class _Cut:
    """Ends a connection under a statement that has not ended in time.

    Cut, not cancelled: a server that is silent by now is out of reach, and saying goodbye to it would take seconds more.
    """

    def __init__(self) -> None:
        self.is_made = False

    def __call__(self, driver: asyncpg.Connection) -> None:
        self.is_made = True
        driver.terminate()


@asynccontextmanager
async def _translated_errors() -> AsyncIterator[_Cut]:
    """Raises DatabaseUnavailableError for what is no fault of the statement; lets everything else through."""
    cut = _Cut()
    try:
        yield cut
    except DBAPIError as error:
        if error.connection_invalidated or _sqlstate(error.orig).startswith((*_UNAVAILABLE, *_OF_A_POOLER)):
            raise unavailable(error) from error
        raise
    except asyncpg.PostgresError as error:
        if _sqlstate(error).startswith((*_UNAVAILABLE, *_OF_A_POOLER)):
            raise unavailable(error) from error
        raise
    except (OSError, asyncpg.InternalClientError) as error:
        # The latter is what the driver says after the server's last word, until the server has hung up.
        raise unavailable(error) from error
    except BotfarmError:
        raise
    except Exception as error:
        if (
            cut.is_made
        ):  # the driver stumbles over what is gone: an AttributeError, where it was between two steps
            raise unavailable(error) from error
        raise


def unavailable(error: Exception) -> DatabaseUnavailableError:
    """The error that callers see, with a reason for people who may know it: logged at most every few seconds."""
    cause: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig else error
    while cause.__cause__ is not None and not _sqlstate(cause):
        cause = cause.__cause__
    reason = " ".join([type(cause).__name__, _sqlstate(cause), *str(cause).splitlines()[:1]])[:300]
    is_of_a_pooler = _sqlstate(cause) in _OF_A_POOLER or _REFUSED_BY_PGBOUNCER in reason
    if is_of_a_pooler:
        reason = f"{UNKNOWN_POOLER} ({reason})"
    now = time.monotonic()
    if now - _last_warning.get("at", -WARNING_INTERVAL) >= WARNING_INTERVAL:
        _last_warning["at"] = now
        logger.warning("database unavailable", reason=reason)
    return UnknownPoolerError(reason) if is_of_a_pooler else DatabaseUnavailableError(reason)


def _sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""
