"""What went wrong between a caller and the farm, as one line for people."""

from botfarm_client.errors import BotfarmError, ProblemError
from botfarm_client.shared.control_characters import escape_control_characters
from botfarm_client.shared.durations import format_duration

_UNAVAILABLE = frozenset({502, 503, 504})
_WAYS_OUT = {
    "unauthenticated": "the farm does not know this token: set BOTFARM_TOKEN",
    "too-large": "this is more than the farm takes at once: split it",
}
# Appended to the farm's detail, which says what is missing.
_NEXT_STEPS = {"forbidden": "set BOTFARM_TOKEN to a token that may do this, or ask for another role"}
_STANDARD_MEMBERS = frozenset({"type", "title", "status", "detail", "instance", "request_id", "errors"})
_DURATIONS = frozenset({"waited", "next_free_in", "expires_in", "oldest_wait"})
_BUGS_BEGIN = 500


def explain(error: BotfarmError, url: str) -> str:
    """One line: what went wrong, and what to do about it."""
    return _line(error, url) if isinstance(error, ProblemError) else str(error)


def _line(problem: ProblemError, url: str) -> str:
    detail = escape_control_characters(problem.detail).rstrip(".")
    is_unavailable = problem.status in _UNAVAILABLE
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
        escape_control_characters(f"{each.get('field')}: {each.get('message') or each.get('code')}")
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
        escape_control_characters(f"{name} {format_duration(value) if name in _DURATIONS else value}")
        for name, value in found.items()
    ]
