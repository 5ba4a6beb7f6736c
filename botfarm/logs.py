"""Logging by structlog, also for the lines of libraries: coloured on a terminal, JSON elsewhere."""

import logging
import re
import sys

import structlog
from structlog.typing import EventDict, Processor

Logger = structlog.stdlib.BoundLogger
# From the words that introduce a quoted value to the end of the message. The value may contain empty
# lines, so the message ends only where SQLAlchemy or Python goes on with a text of its own.
_QUOTED = re.compile(
    r"(^DETAIL:|invalid input for query argument \$\d+:).*?"
    r"(?=\n\[SQL: |\n\n(?:The above|During handling of)|\Z)",
    re.MULTILINE | re.DOTALL,
)


def get_logger(name: str) -> Logger:
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(level: str, *, terminal: bool | None = None) -> None:
    """Sends all log lines to standard error, because standard output is for the results of commands."""
    if terminal is None:
        terminal = sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Plain tracebacks, because local variables may hold credentials.
                structlog.processors.format_exc_info,
                _without_row_contents,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for chatty in ("apscheduler", "uvicorn", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _without_row_contents(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Removes values from tracebacks.

    PostgreSQL quotes the row that violates a constraint; the driver quotes a value that it cannot encode.
    """
    if "exception" in event:
        event["exception"] = _QUOTED.sub(r"\1 (left out)", event["exception"])
    return event
