"""What a database is asked, through SQLAlchemy's sessions or past them."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, TextClause, event

from botfarm.db.postgres.driver import Driver, Executor
from botfarm.db.postgres.engine import Database

Note = Callable[[str, object], object]
"""Called with the text and the parameters of each statement, once it has been answered."""


@contextmanager
def noted_everywhere(note: Note) -> Iterator[None]:
    execute = Driver.execute

    async def noting(driver: Driver, statement: TextClause, params: Mapping[str, Any]) -> Iterable[Any]:
        rows = await execute(driver, statement, params)
        note(str(statement), params)
        return rows

    with pytest.MonkeyPatch.context() as patch, _noted_by(Engine, note):
        patch.setattr(Driver, "execute", noting)
        yield


@contextmanager
def noted(database: Database, note: Note) -> Iterator[None]:
    direct = database.direct

    @asynccontextmanager
    async def noting() -> AsyncIterator[Executor]:
        async with direct() as executor:
            yield _Noting(executor, note)

    with pytest.MonkeyPatch.context() as patch, _noted_by(database._engine.sync_engine, note):
        patch.setattr(database, "direct", noting)
        yield


class _Noting:
    def __init__(self, executor: Executor, note: Note) -> None:
        self._executor = executor
        self._note = note

    async def execute(self, statement: TextClause, params: Mapping[str, Any], /) -> Iterable[Any]:
        rows = await self._executor.execute(statement, params)
        self._note(str(statement), params)
        return rows


@contextmanager
def _noted_by(engine: Engine | type[Engine], note: Note) -> Iterator[None]:
    def answered(_connection: Any, _cursor: Any, statement: str, parameters: object, *_: Any) -> None:
        note(statement, parameters)

    event.listen(engine, "after_cursor_execute", answered)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", answered)
