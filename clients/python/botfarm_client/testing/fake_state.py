"""What a user of a fake farm is at this moment: its state, what is due, and from when on tests may have it."""

from collections.abc import Mapping
from typing import Any

from botfarm_client.shared import clock
from botfarm_client.testing.fake_policy import FakePolicy
from botfarm_client.testing.fake_users import FakeUser

REJECTED = frozenset({"credential_rejected", "locked_out"})


def state(user: FakeUser) -> str:
    """As the farm shows and counts it."""
    purpose = user.live_lease.purpose if user.live_lease else None
    if user.status == "retired":
        return "retired"
    if purpose in {"chore", "hold"}:
        return "chore" if purpose == "chore" else "held"
    if user.status == "quarantined":
        return "quarantined"
    if purpose:
        return "leased"
    if user.status == "dirty":
        return "dirty"
    return "resting" if user.is_resting else "free"


def is_free(user: FakeUser) -> bool:
    return state(user) == "free"


def has_labels(user: FakeUser, wanted: Mapping[str, Any]) -> bool:
    """Whether the user has for each key the value, one of the values, or with null no such label."""
    return all(
        user.labels.get(key) in (value if isinstance(value, list) else [value])
        for key, value in wanted.items()
    )


def free_at(user: FakeUser, policy: FakePolicy) -> float | None:
    """When time alone lets a test have it, if ever."""
    lease = user.live_lease
    if lease and (lease.purpose == "chore" or policy.cleans_after_tests):
        return None
    if user.status == "active":
        return user.available_at
    if user.status_until is None or user.pending_password is not None or policy.cleans_after_tests:
        return None
    return max(user.available_at, user.status_until)


def end_quarantine(user: FakeUser, policy: FakePolicy) -> None:
    """Ends one whose time is over."""
    if user.status == "quarantined" and user.status_until is not None and user.status_until <= clock.now():
        is_unclean = policy.cleans_after_tests or user.pending_password is not None
        user.set_status("dirty" if is_unclean else "active")


def due(user: FakeUser, policy: FakePolicy) -> list[str]:
    """What a keeper is to do with the user."""
    timely = _due_by_time(user, policy)
    if user.status == "dirty":
        timely.add("clean")
    if user.must_rotate or user.pending_password is not None:
        timely.add("rotate")
    return [kind for kind in ("clean", "check", "rotate", "session") if kind in timely]


def waits_for_keeper(user: FakeUser, policy: FakePolicy, *, tests_wait: bool) -> bool:
    """Whether it is dirty, or due and wanted by no test that waits."""
    if user.live_lease or user.is_resting or is_rejected(user) or user.failed_chores >= policy.clean_attempts:
        return False
    return user.status == "dirty" or (
        user.status == "active" and not tests_wait and bool(_due_by_time(user, policy))
    )


def session_ends(user: FakeUser, policy: FakePolicy) -> bool:
    """Whether its kept session ends so soon that a keeper refreshes it."""
    if not policy.session_refresh or user.session_expires_at is None:
        return False
    return user.session_expires_at - policy.session_refresh <= clock.now()


def is_rejected(user: FakeUser) -> bool:
    """Then no keeper signs in again, because more tries lock the account."""
    return user.health == "failing" and user.health_reason in REJECTED


def _due_by_time(user: FakeUser, policy: FakePolicy) -> set[str]:
    now, found = clock.now(), set()
    if policy.check_every and (user.checked_at is None or user.checked_at + policy.check_every <= now):
        found.add("check")
    rotated_at = user.created_at if user.rotated_at is None else user.rotated_at
    if policy.rotate_every and rotated_at + policy.rotate_every <= now:
        found.add("rotate")
    if session_ends(user, policy):
        found.add("session")
    return found
