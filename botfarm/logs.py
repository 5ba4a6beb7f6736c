"""Logging by structlog, also for the lines of libraries: coloured on a terminal, JSON elsewhere."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor
from typing_extensions import override

from botfarm.log_writer import LogWriter

Logger = structlog.stdlib.BoundLogger
# From the words that introduce a quoted value to the end of the message. The value may contain empty
# lines, so the message ends only where SQLAlchemy or Python goes on with a text of its own.
_QUOTED = re.compile(
    r"(^DETAIL:|invalid input for query argument \$\d+:).*?"
    r"(?=\n\[SQL: |\n\n(?:The above|During handling of)|\Z)",
    re.MULTILINE | re.DOTALL,
)


class _Output(logging.StreamHandler[TextIO]):
    """Standard error. Without a writer, each line is written before the call that logs it returns."""

    writer: LogWriter | None = None

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if self.writer is None:
            super().emit(record)
            return
        try:
            self.writer.write(self.format(record) + self.terminator, urgent=record.levelno >= logging.ERROR)
        except Exception:  # noqa: BLE001  as handlers of the standard library do
            self.handleError(record)


_output = _Output()


def get_logger(name: str) -> Logger:
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(level: str, *, terminal: bool | None = None) -> None:
    """Sends all log lines to standard error, because standard output is for the results of commands."""
    if terminal is None:
        terminal = sys.stderr is not None and sys.stderr.isatty()
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
    _output.stream = sys.stderr
    _output.setFormatter(
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
    root.handlers = [_output]
    root.setLevel(level)
    for chatty in ("apscheduler", "uvicorn", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@contextmanager
def lines_in_batches() -> Iterator[None]:
    """Within the block an event loop writes the lines of a moment at once.

    Not so on a terminal, where people see them between other output.
    """
    stream: TextIO | None = _output.stream  # None in a process that was started without standard error
    if stream is None or stream.isatty():
        yield
        return
    writer = _output.writer = LogWriter(stream.fileno(), _render)
    try:
        yield
    finally:
        _output.writer = None
        writer.close()


def log_often(logger: logging.Logger, event: str, **values: str | float | None) -> None:
    """Logs at INFO what is logged with each request. `values` are all that the line has: bound values are not added.

    The caller has asked the logger whether it is enabled.
    In batches, they are rendered when they are written: the code for many lines in a row stays in the processor's
    caches, and a line takes a small part of the time.
    """
    if _output.writer is None:
        get_logger(logger.name).info(event, **values)
        return
    values.update(event=event, level="info", logger=logger.name, timestamp=time.time())
    _output.writer.write(values)


def _render(event: EventDict) -> str:
    """JSON of an event whose timestamp is seconds since 1970."""
    seconds, microseconds = divmod(round(event["timestamp"] * 1e6), 1_000_000)
    event["timestamp"] = f"{_second(seconds)}.{microseconds:06}Z"
    return _encode(event)


_encode = json.JSONEncoder(check_circular=False).encode  # quicker, and events hold nothing but plain values


@lru_cache(1)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _without_row_contents(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Removes values from tracebacks.

    PostgreSQL quotes the row that violates a constraint; the driver quotes a value that it cannot encode.
    """
    if "exception" in event:
        event["exception"] = _QUOTED.sub(r"\1 (left out)", event["exception"])
    return event
