"""Statements that go straight to the driver: the three that every lease needs, and the look that finds whose turn it is.

The connection is one of SQLAlchemy's pool, and the statement is a text of SQLAlchemy's; but there is no session, no cursor
and no result between, which take 0.3 ms of the processor for each statement: eight times what the driver takes.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import asyncpg
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import asyncpg as dialect


class Executor(Protocol):
    """A session, or the driver itself."""

    async def execute(self, statement: TextClause, params: Mapping[str, Any], /) -> Iterable[Any]:
        """Rows, whose columns are attributes."""


class Row(asyncpg.Record):  # type: ignore[misc]  # the driver has no types
    """Looks like a row of SQLAlchemy's."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def _fields(self) -> tuple[str, ...]:
        return tuple(self.keys())


class Driver:
    def __init__(self, connection: asyncpg.Connection) -> None:
        """Of a connection without an open transaction: then each statement is one."""
        self._connection = connection

    async def execute(self, statement: TextClause, params: Mapping[str, Any], /) -> list[Row]:
        text, names = _with_numbers(statement)
        rows: list[Row] = await self._connection.fetch(
            text, *(params[name] for name in names), record_class=Row
        )
        return rows


@functools.cache
def _with_numbers(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """With $1, $2 in place of names, as the driver wants it, and these names."""
    compiled: Any = statement.compile(dialect=dialect.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), tuple(compiled.positiontup)
