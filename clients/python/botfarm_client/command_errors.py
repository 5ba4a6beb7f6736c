"""How a command ends when something is wrong. The numbers are a contract with scripts: docs/command-line.md."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    BAD_LINES = 3
    NO_SUCH_THING = 4
    BUSY = 5
    LAPSED = 6
    UNAVAILABLE = 7
    LEASE_LOST = 75
    INTERRUPTED = 130


class CommandError(Exception):
    """Ends a command with one line on standard error: what is wrong, and the way out."""

    def __init__(self, message: str, *, exit_code: int = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)
