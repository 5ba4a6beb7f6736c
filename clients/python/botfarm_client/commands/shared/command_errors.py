"""How a command ends after an error. The exit codes are a contract with scripts: docs/command-line.md."""

from enum import IntEnum

from botfarm_client.errors import BotfarmError, FarmUnreachableError, ProblemError
from botfarm_client.shared.explanations import explain


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
    """Ends a command with one line on standard error: the error, and the way out."""

    def __init__(self, message: str, *, exit_code: int = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.exit_code = int(exit_code)


_EXIT_CODES = {
    404: ExitCode.NO_SUCH_THING,
    409: ExitCode.BUSY,
    410: ExitCode.LAPSED,
    429: ExitCode.BUSY,
    502: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
    504: ExitCode.UNAVAILABLE,
}


def command_error(error: BotfarmError, url: str) -> CommandError:
    """How a command ends after an error of the SDK: its line, and the exit code for scripts."""
    return CommandError(explain(error, url), exit_code=_exit_code(error))


def _exit_code(error: BotfarmError) -> ExitCode:
    match error:
        case ProblemError():
            is_of_a_farm = error.slug not in {"", "no-such-page"}
            code = _EXIT_CODES.get(error.status, ExitCode.ERROR)
            return code if is_of_a_farm or code is ExitCode.UNAVAILABLE else ExitCode.ERROR
        case FarmUnreachableError():
            return ExitCode.UNAVAILABLE
        case _:
            return ExitCode.ERROR
