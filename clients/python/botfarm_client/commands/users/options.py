"""The filters of users."""

from enum import StrEnum


class State(StrEnum):
    FREE = "free"
    LEASED = "leased"
    RESTING = "resting"
    DIRTY = "dirty"
    CHORE = "chore"
    HELD = "held"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Health(StrEnum):
    UNKNOWN = "unknown"
    OK = "ok"
    FAILING = "failing"
    UNREACHABLE = "unreachable"
