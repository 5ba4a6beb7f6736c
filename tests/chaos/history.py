"""What the clients of a chaos run saw and what was done to the farm, as lines of a file that the checker reads.

All times are seconds of one monotonic clock, because all clients run in one process.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import from_json

Json = Any

CANARY = "canary-of-the-chaos"
"""Each password that a client of a run stores contains it, so that the checker finds it wherever it is."""
PATIENCE = 6.0
"""Seconds that a client waits for an answer, beside those that it asked the farm to wait. Some hang up earlier."""
BROKEN_OFF = "the run was over"
"""The error of a call that was under way at the end."""
PAGE = "page"
"""The operation of a request for the page for people, which is in no OpenAPI document."""
CLOCK_STEP = "database-clock"
"""The kind of a fault that steps the clock of the database."""
BREAKDOWN = "breakdown"
"""The kind of a fault that nobody planned and that the farm must not have: its note says what broke down."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as its client saw it."""

    client: str
    """For example `runner-7`."""
    operation: str
    """Its operationId in the OpenAPI document, or PAGE."""
    method: str
    path: str
    """With its query; without the origin."""
    replica: str
    """The origin that it was sent to."""
    sent_at: float
    """Before the first byte was sent."""
    ended_at: float
    """When the answer had been read, or the client gave up."""
    principal: str
    key: str | None = None
    """The Idempotency-Key."""
    body: Json = None
    status: int | None = None
    """None when no whole answer came."""
    answer: Json = None
    """Parsed when it was JSON, else the text."""
    content_type: str = ""
    error: str = ""
    """Why no answer came."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the nemesis did."""

    kind: str
    target: str
    began_at: float
    ended_at: float
    note: str = ""
    origin: str = ""
    """Of the one process that it was done to; empty when it was done to the database or to all processes."""
    is_done: bool = True
    """False where it was tried, and the database was away."""
    stepped: float = 0.0
    """Seconds by which the clock of the database was stepped, negative for backward."""


@dataclass(slots=True)
class History:
    calls: list[Call] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class Recorder:
    """Appends each record as one line of JSON, so that a run that is killed leaves what was seen."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def add(self, record: Call | Fault) -> None:
        self._file.write(json.dumps({"record": type(record).__name__, **asdict(record)}) + "\n")


def read_history(path: Path) -> History:
    history = History()
    for record in _records(path):
        match record.pop("record"):
            case "Call":
                history.calls.append(Call(**record))
            case "Fault":
                history.faults.append(Fault(**record))
            case other:
                raise ValueError(f"no such record: {other}")
    return history


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Text that is in many lines, such as the names of fields, is kept once: a run has a million answers."""
    with path.open("rb") as lines:
        for line in lines:
            yield from_json(line, cache_strings="all")
