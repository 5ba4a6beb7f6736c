"""What the database kept, as a file beside the history, so that all rules can be applied again."""

import json
from collections import Counter
from collections.abc import Callable, Mapping
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


def write_kept(kept: Kept, path: Path) -> None:
    """Without passwords and secrets, not even sealed ones."""
    path.write_text(json.dumps(_told(kept)))


def load_kept(path: Path) -> Kept:
    kept: Kept = json.loads(path.read_text(), object_hook=_made)
    return kept


def _told(value: Any) -> Any:
    """What JSON has no type for is an object with one member: its type and what it is made of."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_told(each) for each in value]
        case tuple() | set():
            return {type(value).__name__: [_told(each) for each in value]}
        case datetime():
            return {"datetime": value.isoformat()}
        case UUID():
            return {"UUID": str(value)}
        case bytes():
            return {"bytes": value.hex()}
        case Counter():
            return {"Counter": _pairs(value.items())}
        case Mapping() | asyncpg.Record():
            return {"dict": _pairs(value.items())}
        case _ if is_dataclass(value):
            members = ((each.name, getattr(value, each.name)) for each in fields(value))
            return {type(value).__name__: _pairs(members)}
    raise TypeError(f"{type(value)} cannot be read again from JSON")


def _pairs(items: Any) -> list[Any]:
    return [
        [_told(name), "sealed" if name in _SEALED and value is not None else _told(value)]
        for name, value in items
    ]


def _made(told: dict[str, Any]) -> Any:
    ((kind, value),) = told.items()
    return _MADE_OF[kind](value)
