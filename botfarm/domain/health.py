"""Whether a user works, as far as keepers have found out."""

from enum import StrEnum


class Health(StrEnum):
    """The result of the last chore that signed in."""

    UNKNOWN = "unknown"
    OK = "ok"
    FAILING = "failing"
    UNREACHABLE = "unreachable"
    """The system under test did not answer."""
