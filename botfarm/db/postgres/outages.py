"""Outages of PostgreSQL: the one place where an error of the driver becomes DatabaseUnavailableError."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError

from botfarm.errors import BotfarmError, DatabaseUnavailableError, UnknownPoolerError
from botfarm.logs import get_logger

logger = get_logger(__name__)

WARNING_INTERVAL = 10.0
"""Seconds between two log lines about an outage, at least."""
_last_warning: dict[str, float] = {}

# SQLSTATEs, or the classes they begin with, of a server that cannot serve any request now: connection lost,
# rolled back by a conflict, out of resources, stopped by an operator or a timeout, failing itself, a standby
# after a failover, waited too long for a lock, and a schema or grants that are not those of this build.
_UNAVAILABLE = ("08", "28", "40", "53", "57", "58", "XX", "25006", "55P03", "42P01", "42703", "42501")
READ_ONLY = "25006"
"""SQLSTATE of a statement that would write on a standby."""

# The assertion failed; a prepared statement does not exist; a prepared statement exists already.
_OF_A_POOLER = ("P0004", "26000", "42P05")
_REFUSED_BY_PGBOUNCER = "unsupported startup parameter"
UNKNOWN_POOLER = (
    "between it and this process is a pooler that shares sessions, such as PgBouncer: "
    "set BOTFARM_DB_POOLER=transaction; BOTFARM_OWNER_URL must go past it"
)


class Cut:
    """Terminates the connection of a statement that has not ended in time.

    Does not cancel the statement, because a server that is silent by now would not answer, and closing would
    take seconds more.
    """

    def __init__(self) -> None:
        self.is_made = False

    def __call__(self, driver: asyncpg.Connection) -> None:
        self.is_made = True
        driver.terminate()


@asynccontextmanager
async def translated_errors() -> AsyncIterator[Cut]:
    """Raises DatabaseUnavailableError for errors that are no fault of the statement; all others pass."""
    cut = Cut()
    try:
        yield cut
    except DBAPIError as error:
        if error.connection_invalidated or sqlstate(error.orig).startswith((*_UNAVAILABLE, *_OF_A_POOLER)):
            raise unavailable(error) from error
        raise
    except asyncpg.PostgresError as error:
        if sqlstate(error).startswith((*_UNAVAILABLE, *_OF_A_POOLER)):
            raise unavailable(error) from error
        raise
    except (OSError, asyncpg.InternalClientError) as error:
        # asyncpg raises InternalClientError between the server's last message and the end of the connection.
        raise unavailable(error) from error
    except BotfarmError:
        raise
    except Exception as error:
        if cut.is_made:  # asyncpg fails on the terminated connection, for example with an AttributeError
            raise unavailable(error) from error
        raise


def unavailable(error: Exception) -> DatabaseUnavailableError:
    """The error that callers see. Its reason is logged at most every `WARNING_INTERVAL` seconds."""
    cause: BaseException = error.orig if isinstance(error, DBAPIError) and error.orig else error
    while cause.__cause__ is not None and not sqlstate(cause):
        cause = cause.__cause__
    reason = " ".join([type(cause).__name__, sqlstate(cause), *str(cause).splitlines()[:1]])[:300]
    is_of_a_pooler = sqlstate(cause) in _OF_A_POOLER or _REFUSED_BY_PGBOUNCER in reason
    if is_of_a_pooler:
        reason = f"{UNKNOWN_POOLER} ({reason})"
    now = time.monotonic()
    if now - _last_warning.get("at", -WARNING_INTERVAL) >= WARNING_INTERVAL:
        _last_warning["at"] = now
        logger.warning("database unavailable", reason=reason)
    return UnknownPoolerError(reason) if is_of_a_pooler else DatabaseUnavailableError(reason)


def sqlstate(error: BaseException | None) -> str:
    return getattr(error, "sqlstate", None) or ""
