"""Changes that were answered: each is in the audit, a revoked token is revoked, and a policy is as it was set last."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from chaos.checker.changes import may_follow
from chaos.checker.kept import Kept
from chaos.checker.seen import Seen, may_have_happened
from chaos.checker.violations import Violation, shown
from chaos.history import Call

_EACH_TIME = frozenset(
    {
        "create_user",
        "create_token",
        "create_project",
        "update_project",
        "update_user",
        "delete_user",
        "quarantine_user",
        "retire_user",
        "write_back",
        "confirm_rotation",
    }
)
"""Operations that the audit has once more for each time that they are answered with success."""
_ONCE = frozenset({"force_release_lease", "delete_token"})
"""Operations that change nothing the second time."""


def changes_that_are_lost(rule: str, seen: Seen, kept: Kept) -> Iterator[Violation]:
    answered: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in seen.calls:
        if call.operation in _EACH_TIME | _ONCE and call.status in {200, 201, 204} and _has_changed(call):
            answered[call.operation, _target(call)].append(call)
    for (operation, target), calls in answered.items():
        seen.compared[rule] += 1
        expected = len(calls) if operation in _EACH_TIME else 1
        times = kept.audited.get((operation, target), 0)
        if times < expected:
            what = f"{operation} of {target} is in the audit {times} times, and was answered {expected} times"
            yield Violation(rule, what, tuple(map(shown, calls)))
        if operation == "delete_token" and target in kept.tokens:
            yield Violation(rule, f"token {target} was revoked, and is in force", tuple(map(shown, calls)))
    yield from _policies_that_are_lost(rule, seen, kept)


def _has_changed(call: Call) -> bool:
    """Not when the lease had ended before it was to be forced."""
    return call.operation != "force_release_lease" or call.answer["ended_by"] == "forced"


def _target(call: Call) -> str:
    """The id under which the audit has what was done: of what was made, or the first in the path."""
    return str(call.answer["id"]) if call.operation.startswith("create_") else call.path.split("/")[4]


def _policies_that_are_lost(rule: str, seen: Seen, kept: Kept) -> Iterator[Violation]:
    """Of each setting the last change that was answered, or one that may have come after it."""
    changes: dict[tuple[str, str], list[tuple[Call, Any]]] = defaultdict(list)
    for call in seen.calls:
        if call.operation == "update_project" and may_have_happened(call):
            for name, value in call.body.items():
                changes[_target(call), name].append((call, value))
    for (project_id, name), made in changes.items():
        answered = [call for call, _ in made if call.status == 200]
        project = kept.projects.get(project_id)
        if not answered or project is None:
            continue
        last = max(answered, key=lambda call: call.sent_at)
        may_hold = [value for call, value in made if call is last or may_follow(call, last)]
        seen.compared[rule] += 1
        if project[name] not in may_hold:
            what = f"project {project['name']} has {name} {project[name]!r}, and was changed last to {may_hold!r}"
            yield Violation(rule, what, (shown(last),))
