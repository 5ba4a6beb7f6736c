"""What a run leaves beside its history, so that all rules can be applied again: what the database kept, and logs."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from chaos.checker.kept import Cap, Kept, KeptLease

KEPT = "kept.json"

_SEALED = frozenset({"password", "secrets", "totp_seed", "pending_password"})
"""Columns whose values are not written, because nobody who reads the file needs a credential."""

_MADE_OF: Mapping[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "UUID": UUID,
    "bytes": bytes.fromhex,
    "tuple": tuple,
    "set": set,
    "dict": dict,
    "Counter": lambda pairs: Counter(dict(pairs)),
    "Cap": lambda pairs: Cap(**dict(pairs)),
    "KeptLease": lambda pairs: KeptLease(**dict(pairs)),
    "Kept": lambda pairs: Kept(**dict(pairs)),
}


def logs_in(folder: Path) -> list[Path]:
    """Of all processes and servers of a run."""
    return sorted(folder.glob("*.log"))


def write_kept(kept: Kept, folder: Path) -> None:
    """Without passwords and secrets, not even sealed ones."""
    (folder / KEPT).write_text(json.dumps(_told(kept)))


def load_kept(folder: Path) -> Kept | None:
    """None if the run was broken off before it read the database."""
    file = folder / KEPT
    kept: Kept | None = json.loads(file.read_text(), object_hook=_made) if file.exists() else None
    return kept


def _told(value: Any) -> Any:
    """What JSON has no type for is an object with one member: its type and what it is made of."""
    kind, parts = type(value).__name__, value
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_told(each) for each in value]
        case datetime():
            parts = value.isoformat()
        case UUID():
            parts = str(value)
        case bytes():
            parts = value.hex()
        case tuple() | set():
            parts = [_told(each) for each in value]
        case Counter():
            parts = _pairs(value.items())
        case Mapping() | asyncpg.Record():
            kind, parts = "dict", _pairs(value.items())
        case _ if is_dataclass(value):
            parts = _pairs((each.name, getattr(value, each.name)) for each in fields(value))
        case _:
            raise TypeError(f"{kind} cannot be read again from JSON")
    return {kind: parts}


def _pairs(items: Iterable[tuple[Any, Any]]) -> list[Any]:
    return [
        [_told(name), "sealed" if name in _SEALED and value is not None else _told(value)]
        for name, value in items
    ]


def _made(told: dict[str, Any]) -> Any:
    ((kind, value),) = told.items()
    return _MADE_OF[kind](value)
