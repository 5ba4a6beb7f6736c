"""The server's own acquire and release, recorded from its functions, so that the rows follow the code."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast
from uuid import UUID

from sqlalchemy import TextClause
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from botfarm.db.leasing import pool_grant_queries, release_queries
from botfarm.db.leasing.release_queries import Release
from botfarm.domain.access import EVERYTHING, Principal, Role
from botfarm.domain.leases import LeaseRequest, Verdict
from botfarm.domain.pools import Pool

PRINCIPAL = "bare-statement"  # without a colon, because pgbench expands `:name` as a variable
HAND = UUID("00000000-0000-f000-8000-00000000feed")
LEASE = UUID("00000000-0000-4000-8000-00000000beef")


@dataclass(frozen=True, slots=True)
class Statement:
    text: TextClause
    parameters: Mapping[str, Any]

    def for_driver(self) -> tuple[str, list[str]]:
        """The text with $1, $2 as SQLAlchemy sends it, and the names of these parameters in order."""
        typed = self.text.bindparams(**self.parameters)
        compiled: Any = typed.compile(dialect=postgresql.asyncpg.dialect())  # type: ignore[no-untyped-call]
        return compiled.string, list(compiled.positiontup)

    def with_literals(self, expressions: Mapping[UUID, str]) -> str:
        """The text with literals in place of parameters; ids that `expressions` has become expressions."""
        text = str(self.text)
        for name, value in self.parameters.items():
            text = _replace_name(text, name, _written(value, expressions))
        return text

    def values(self, names: Sequence[str], ids: Mapping[UUID, UUID]) -> list[object]:
        """The values of these parameters, with ids replaced as `ids` says."""
        return [_exchanged(self.parameters[name], ids) for name in names]


def acquire_statement(project_id: UUID) -> Statement:
    """The acquire of one request. Its lease gets the id LEASE."""
    principal = Principal(PRINCIPAL, Role.RUNNER, EVERYTHING, address="127.0.0.1", request_id="0" * 32)
    request = LeaseRequest(principal, Pool(project_id, "stage", "regular"))
    recorded = _recorded(
        lambda session: pool_grant_queries.grant_from_pool(
            session, [request], tickets=None, hand=HAND, replica=LEASE, latest=None
        )
    )
    return replace(recorded, parameters={**recorded.parameters, "lease_ids": [LEASE]})


def release_statement() -> Statement:
    wanted = [Release(LEASE, PRINCIPAL, Verdict())]
    return _recorded(lambda session: release_queries.release(session, wanted))


class _RecordedError(Exception):
    pass


class _Recorder:
    """Stands in for a session: keeps the first statement, and raises instead of executing it."""

    statement: Statement

    async def execute(self, text: TextClause, parameters: Mapping[str, Any]) -> None:
        self.statement = Statement(text, parameters)
        raise _RecordedError


def _recorded(call: Callable[[AsyncSession], Awaitable[object]]) -> Statement:
    recorder = _Recorder()

    async def run() -> None:
        try:
            await call(cast("AsyncSession", recorder))
        except _RecordedError:
            return

    asyncio.run(run())
    return recorder.statement


def _replace_name(text: str, name: str, value: str) -> str:
    return re.sub(rf"(?<![:\w\\]):{name}(?!\w)", lambda _: value, text)


def _written(value: object, expressions: Mapping[UUID, str]) -> str:
    if isinstance(value, UUID) and value in expressions:
        return expressions[value]
    if isinstance(value, list) and expressions.keys() & set(value):
        return f"ARRAY[{', '.join(_written(each, expressions) for each in value)}]"
    return _literal(value)


def _exchanged(value: object, ids: Mapping[UUID, UUID]) -> object:
    if isinstance(value, list):
        return [_exchanged(each, ids) for each in value]
    return ids.get(value, value) if isinstance(value, UUID) else value


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case bytes():
            return f"'\\x{value.hex()}'"
        case list() | tuple():
            return "'{" + ",".join("NULL" if each is None else json.dumps(str(each)) for each in value) + "}'"
        case _:
            return "'" + str(value).replace("'", "''") + "'"
