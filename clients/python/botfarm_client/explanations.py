"""What went wrong between a command and the farm: one line for people, one exit code for scripts."""

from botfarm_client.command_errors import CommandError, ExitCode
from botfarm_client.durations import format_duration
from botfarm_client.errors import BotfarmError, FarmUnreachableError, ProblemError
from botfarm_client.printable import printable

_EXIT_CODES = {
    404: ExitCode.NO_SUCH_THING,
    409: ExitCode.BUSY,
    410: ExitCode.LAPSED,
    429: ExitCode.BUSY,
    502: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
    504: ExitCode.UNAVAILABLE,
}
_WAYS_OUT = {
    "unauthenticated": "the farm does not know this token: set BOTFARM_TOKEN",
    "too-large": "this is more than the farm takes at once: split it",
}
# Said after the farm's own words, which say what is missing.
_NEXT_STEPS = {"forbidden": "set BOTFARM_TOKEN to a token that may do this, or ask for another role"}
_STANDARD_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "request_id", "errors"})
_DURATIONS = frozenset({"waited", "next_free_in", "expires_in", "oldest_wait"})
_BUGS_BEGIN = 500


def explain(error: BotfarmError, url: str) -> CommandError:
    match error:
        case ProblemError():
            return CommandError(_line(error, url), exit_code=_exit_code(error))
        case FarmUnreachableError():
            return CommandError(str(error), exit_code=ExitCode.UNAVAILABLE)
        case _:
            return CommandError(str(error))


def _exit_code(problem: ProblemError) -> int:
    is_of_a_farm = problem.slug not in {"", "no-such-page"}
    code = _EXIT_CODES.get(problem.status, ExitCode.ERROR)
    return code if is_of_a_farm or code is ExitCode.UNAVAILABLE else ExitCode.ERROR


def _line(problem: ProblemError, url: str) -> str:
    detail = printable(problem.detail).rstrip(".")
    is_unavailable = _EXIT_CODES.get(problem.status) is ExitCode.UNAVAILABLE
    if problem.slug == "no-such-page" or not (problem.slug or is_unavailable):
        return f"{url} answered {problem.status} ({detail}), not as a farm does: check BOTFARM_URL"
    if not problem.slug:
        return f"the farm at {url} is not available: {problem.status} {detail}"
    if problem.slug in _WAYS_OUT:
        return _WAYS_OUT[problem.slug]
    if problem.slug in _NEXT_STEPS:
        return f"{detail}: {_NEXT_STEPS[problem.slug]}"
    if fields := _field_errors(problem):
        return "; ".join(fields)
    useful = "; ".join(_useful_details(problem))
    return f"{detail} ({useful})" if useful else detail


def _field_errors(problem: ProblemError) -> list[str]:
    return [
        printable(f"{each.get('field')}: {each.get('message') or each.get('code')}")
        for each in problem.details.get("errors") or []
    ]


def _useful_details(problem: ProblemError) -> list[str]:
    found = {
        name: value
        for name, value in problem.details.items()
        if name not in _STANDARD_MEMBERS and value is not None
    }
    if problem.status >= _BUGS_BEGIN:
        found["request_id"] = problem.details.get("request_id")
    return [
        printable(f"{name} {format_duration(value) if name in _DURATIONS else value}")
        for name, value in found.items()
    ]
