"""Executes the most frequent statements with asyncpg itself: acquire, renew, release and the read of a queue.

The connection comes from SQLAlchemy's pool, and the statement is SQLAlchemy's text. A session, a cursor and a
result object would take 0.3 ms of processor time for each statement, eight times what asyncpg takes (decision
0017).
"""

import functools
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import asyncpg
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql import asyncpg as dialect


class Executor(Protocol):
    """An SQLAlchemy session or a `Driver`."""

    async def execute(self, statement: TextClause, params: Mapping[str, Any], /) -> Iterable[Any]:
        """Rows, whose columns are attributes."""


class Row(asyncpg.Record):  # type: ignore[misc]  # the driver has no types
    """A record with its columns as attributes, like an SQLAlchemy row."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name not in self.keys():
            raise AttributeError(name)
        # From now on without this method, which takes four times as long.
        setattr(Row, name, property(operator.itemgetter(name)))
        return self[name]

    @property
    def _fields(self) -> tuple[str, ...]:
        return tuple(self.keys())


class Driver:
    def __init__(self, connection: asyncpg.Connection) -> None:
        """The connection has no open transaction, so each statement is a transaction of its own."""
        self._connection = connection

    async def execute(self, statement: TextClause, params: Mapping[str, Any], /) -> list[Row]:
        text, names = _with_numbers(statement)
        rows: list[Row] = await self._connection.fetch(
            text, *(params[name] for name in names), record_class=Row
        )
        return rows


@functools.cache
def _with_numbers(statement: TextClause) -> tuple[str, tuple[str, ...]]:
    """The statement with $1, $2 in place of names, as asyncpg wants it, and the names in that order."""
    compiled: Any = statement.compile(dialect=dialect.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), tuple(compiled.positiontup)
